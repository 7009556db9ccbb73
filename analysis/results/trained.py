"""Trained codecs of runs, beside their results."""

from experiments.tracking.models.trained_codecs import load_codec

__all__ = ["load_codec"]
