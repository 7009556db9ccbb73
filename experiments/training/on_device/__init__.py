"""The device of a training: how batches come to it, how it computes, and what its memory holds."""
