"""Reading studies: results, tables and figures from a tracking store alone; trains nothing."""

from analysis.loading import load
from analysis.results import Results, ResultsError

__all__ = ["Results", "ResultsError", "load"]
