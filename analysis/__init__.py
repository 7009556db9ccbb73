"""Reading studies: results, tables and figures from a tracking store alone; trains nothing."""
