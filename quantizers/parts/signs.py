"""Rotations under which signs, or residual stages of signs, lie near what they stand for."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

ROUNDS = 50  # as in the paper


def iterative_quantization(scores: Tensor, turn: Tensor, stages: int) -> Tensor:
    """A turn [n, channels] of `scores` [frames, n], with orthonormal rows, that takes them near their codes.

    Gong and Lazebnik 2011, Iterative quantization: a Procrustean approach to learning binary codes, section
    2.2: the codes B of V R, then the R that is nearest to them (orthogonal Procrustes, Schoenemann 1966), in
    turns. Here the codes of each channel are scaled by its deviation, and with more than one stage they are
    the sums of the stages. With more channels than scores the rows of R are a tight frame.
    """
    deviation = best_deviation(stages)
    for _ in range(ROUNDS):
        turned = scores @ turn
        unit = deviations(turned) / deviation
        codes = staged_signs(turned / unit, stages) * unit
        left, _, right = torch.linalg.svd(scores.mT @ codes, full_matrices=False)
        turn = left @ right
    return turn


def deviations(values: Tensor) -> Tensor:
    """Root mean square of each column of `values` [frames, channels]; 1 where all are 0."""
    found = values.square().mean(0).sqrt()
    return torch.where(found > 0, found, 1.0)


def staged_signs(values: Tensor, stages: int) -> Tensor:
    """Sum over stages s of +-2^-s, each the sign of what the ones before left over of `values`."""
    total = torch.zeros_like(values)
    for stage in range(stages):
        total = total + torch.where(values - total > 0, 2.0**-stage, -(2.0**-stage))
    return total


@cache
def best_deviation(stages: int) -> float:
    """Deviation at which a Gaussian is nearest its staged signs, relative to itself, to within 1 %.

    One stage: 1 / E|z| = sqrt(pi / 2) = 1.253, Max 1960's quantizer of two levels.
    """
    levels = torch.special.ndtri((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)
    tried = torch.linspace(0.3, 1.4, 221, dtype=torch.float64)
    values = levels.unsqueeze(1) * tried
    errors = (staged_signs(values, stages) - values).square().mean(0) / tried.square()
    return float(tried[errors.argmin()])
