"""Levels of a scalar quantizer that leave the least squared error (Lloyd 1982, Max 1960): of samples, and of
the Gaussian."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_SOLVED = 512  # levels that are solved for; the first guess of more is as good


def lloyd_max(samples: Tensor, values: Tensor, rounds: int = 30) -> Tensor:
    """Values [levels] that follow rising `values` by Lloyd's rounds on `samples` [frames].

    A value that no sample is nearest to stays where it is.
    """
    for _ in range(rounds):
        nearest = torch.bucketize(samples, (values[1:] + values[:-1]) / 2)
        counts = torch.zeros_like(values).index_add_(0, nearest, torch.ones_like(samples))
        sums = torch.zeros_like(values).index_add_(0, nearest, samples)
        values = torch.where(counts > 0, sums / counts.clamp_min(1), values).sort().values
    return values


@cache
def gaussian_levels(levels: int) -> Tensor:
    """The `levels` values, rising, float64, of the best quantizer of a Gaussian of unit variance.

    Each value is the mean of its cell, which Newton's method solves for. The first guess has the density that
    is best for many levels, the cube root of the Gaussian's: sqrt(3) Phi^-1((i + 1/2) / L) (Panter and Dite
    1951).
    """
    values = math.sqrt(3) * torch.special.ndtri((torch.arange(levels, dtype=torch.float64) + 0.5) / levels)
    for _ in range(20 if levels <= MOST_SOLVED else 0):
        slopes = _slopes(values) - torch.eye(levels, dtype=torch.float64)
        step = torch.linalg.solve(slopes, means(values) - values)
        values = values - step
        if step.abs().max() < 1e-12:
            break
    return values


def means(values: Tensor) -> Tensor:
    """Mean of a Gaussian in each of the cells that have the rising `values` [levels] as their nearest."""
    density, share = _densities(values), shares(values)
    return (density[:-1] - density[1:]) / share.clamp_min(1e-300)


def shares(values: Tensor) -> Tensor:
    """Probability of each of these cells."""
    edges = _edges(values)
    # Each tail from its own side, where differences are exact.
    low, high = torch.special.ndtr(edges), torch.special.ndtr(-edges)
    return torch.where(values > 0, high[:-1] - high[1:], low[1:] - low[:-1])


def _slopes(values: Tensor) -> Tensor:
    """The derivative [levels, levels] of `means` by the values.

    dm/da = phi(a) (m - a) / P and dm/db = phi(b) (b - m) / P of a cell [a, b] of probability P; an edge is
    half of each of its two values.
    """
    density, edges, share, mean = _densities(values), _edges(values), shares(values), means(values)
    by_low = (density[:-1] * (mean - edges[:-1]) / share)[1:] / 2  # but for the first, whose edge is infinite
    by_high = (density[1:] * (edges[1:] - mean) / share)[:-1] / 2
    own = F.pad(by_low, (1, 0)) + F.pad(by_high, (0, 1))
    return own.diag() + by_low.diag(-1) + by_high.diag(1)


def _edges(values: Tensor) -> Tensor:
    end = values.new_tensor([math.inf])
    return torch.cat((-end, (values[1:] + values[:-1]) / 2, end))


def _densities(values: Tensor) -> Tensor:
    return torch.exp(-_edges(values).square() / 2) / math.sqrt(2 * math.pi)
