"""Command functions of the command line, one module a room."""
