"""Results: a study read from a tracking store into tidy frames."""
