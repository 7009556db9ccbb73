"""Tools that every other room of `experiments` may use: processes, files, names, rates."""
