"""Display of commands: consoles and tables, rows of runs under way, time left."""
