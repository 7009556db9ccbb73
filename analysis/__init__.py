"""Reading studies: results, tables and figures from a tracking store alone; trains nothing."""

from analysis.results import Results, ResultsError, load

__all__ = ["Results", "ResultsError", "load"]
