"""Search for the bottleneck that is best at a number of bits."""
