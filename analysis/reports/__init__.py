"""Reports: the HTML page of a study, the LaTeX kit of a paper."""
