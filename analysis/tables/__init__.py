"""Tables: computed once, rendered for a terminal, Markdown, LaTeX, HTML and CSV."""
