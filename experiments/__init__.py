"""Running studies: data, training, evaluation, tracking, and the command line."""
