"""Losses of a codec: spectral distances, adversaries, and the objectives that add them up."""
