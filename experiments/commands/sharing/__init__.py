"""Commands that share models and reports: with a hub of models, in folders, and as pages on the web."""
