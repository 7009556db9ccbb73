"""Reading studies: results, tables and figures from a tracking store alone; trains nothing."""

from analysis.results.load import load
from analysis.results.study_results import Results, ResultsError

__all__ = ["Results", "ResultsError", "load"]
