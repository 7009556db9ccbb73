"""Mirrors of metrics in other trackers, beside the tracking store: TensorBoard, Weights & Biases.

A mirror is for the eye: nothing reads it, and one that fails costs a warning, never a training.
"""
