"""Evaluation: a codec over the test split, scores with intervals, robustness, audio from folders."""
