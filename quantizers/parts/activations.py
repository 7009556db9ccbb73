"""Activations that bring a channel into (-1, 1) before it is quantized.

`tanh`, as published for FSQ (arXiv 2309.15505) and Q2D2 (arXiv 2512.01537), and `sigmoid`,
2 sigmoid(1.6 x) - 1, as published for iFSQ (arXiv 2601.17124). The two are one function of another slope:

    2 sigmoid(2 s x) - 1 = tanh(s x), so iFSQ's is tanh(0.8 x)

With s = 0.851 the Gaussian of unit variance is nearly uniform behind it, see `scales`; 0.8 is close. The
slope decides where a random start lands and how fast the map in front of it learns. A start from data
searches for the scale of each channel, and so comes to the same cells with both, to within its own steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

SLOPES = {"tanh": 1.0, "sigmoid": 0.8}


def bounded(values: Tensor, activation: str) -> Tensor:
    """`values` [...] in (-1, 1) by the activation of that name."""
    slope = SLOPES[activation]
    return torch.tanh(values if slope == 1.0 else values * slope)
