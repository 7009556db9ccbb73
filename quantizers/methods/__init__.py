"""Quantization methods, one (or one close family) a module."""
