"""How far a channel is stretched before its levels, found on the quantizer itself.

A channel carries a component of unit variance, multiplied by a scale a. For tanh, two scales are known in
closed form. The normal law has Phi(z) = 1 / (1 + exp(-1.702 z)) to within 0.0095 (Camilli 1994), so

    2 Phi(z) - 1 = tanh(0.851 z) to within 0.019:

at a = 0.851 a Gaussian fills (-1, 1) evenly and all cells of `range: cell` are used alike, which has the
greatest entropy. It does not have the least error. Levels that are uniform behind a compressor c lie with a
density of c', and the error is least for c' proportional to the cube root of the source's density (Panter and
Dite 1951; Bennett 1948), here Phi(z / sqrt(3)) and so a = 0.851 / sqrt(3) = 0.491. That is for a decoder that
expands again. Here the way back is linear, and what tanh bends stays bent: the more levels, the smaller the
scale that is best. With a Gaussian and 5, 9, 17, 33 levels it is 0.54, 0.48, 0.35, 0.27 for `range: cell` and
0.76, 0.51, 0.36, 0.28 for `edge`, whose outer cells are half as wide. At 0.851 the ratio of signal to error
never passes 12.81 dB, however many levels there are, and at 10 levels it is 3.2 dB below the best
(tests/quantizers/test_starts.py computes these). Other activations, other sources (0.36 for a Laplacian at 9
levels), pairs and lattices have others. So the scale is searched for, on the features that are to be
quantized and by the quantizer's own cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from quantizers.parts.components import unexplained

EVEN = 0.851  # tanh of this times a Gaussian is nearly uniform
BEST = EVEN / math.sqrt(3)  # where the search begins
_COARSE = tuple(2.0**power for power in (0, 1, -1, 2, -2, 3, -3, -4, -5))
_FINE = tuple(2.0 ** (power / 8) for power in (-4, -2, 2, 4)), tuple(2.0 ** (power / 8) for power in (-1, 1))


def best_scales(read: Callable[[Tensor], Tensor], targets: Tensor, weights: Tensor, width: int = 1) -> Tensor:
    """The scale of each channel with which its block's values tell its targets best.

    read: from scales [channels] to the quantized values [frames, channels] that they give.
    targets: what a linear read-out of a block's values is to tell, [frames, channels]; weights: [channels],
    what a unit of squared error counts. width: of the blocks, whose channels share a cell and so a scale.
    Returns [channels] float64. Factors of 2, then eighths of an octave: within 5 % of the best.
    """
    best = torch.full((len(weights) // width,), BEST, dtype=torch.float64)
    least = torch.full_like(best, math.inf)
    for factors in (_COARSE, *_FINE):
        middle = best
        for factor in factors:
            tried = middle * factor
            left = unexplained(read(tried.repeat_interleave(width)), targets, width) * weights
            errors = left.unflatten(0, (-1, width)).sum(1)
            better = errors < least * (1 - 1e-9)
            best, least = torch.where(better, tried, best), torch.where(better, errors, least)
    return best.repeat_interleave(width)
