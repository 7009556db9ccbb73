"""Commands that look after studies: their files, their runs, what they leave on disk, and the UI."""
