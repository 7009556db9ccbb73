"""Sources of audio, one kind of corpus a module; `registry` parses what a study names."""
