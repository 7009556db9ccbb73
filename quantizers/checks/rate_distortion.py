"""Rate-distortion functions: the signal-to-noise ratio that a source allows at a rate."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor


def water_filling_snr(bits: float, covariance: Tensor) -> float:
    """Decibels that a Gaussian source of `covariance` [n, n] allows at `bits` per value: water-filling
    (Cover and Thomas, theorem 10.3.3)."""
    eigenvalues = torch.linalg.eigvalsh(covariance).clamp_min(1e-12)
    low, high = 0.0, float(eigenvalues.max())
    for _ in range(100):
        level = (low + high) / 2
        rate = 0.5 * torch.log2((eigenvalues / level).clamp_min(1)).mean().item()
        low, high = (level, high) if rate > bits else (low, level)
    return -10 * math.log10(
        (torch.minimum(eigenvalues, torch.tensor(level)).mean() / eigenvalues.mean()).item()
    )


def components_snr(components: int, covariance: Tensor) -> float:
    """Decibels that remain where the largest `components` principal components of values of `covariance`
    [n, n] have no error, and all others are lost; infinite for n and more."""
    eigenvalues = torch.linalg.eigvalsh(covariance).clamp_min(1e-12)
    lost = eigenvalues[: max(0, len(eigenvalues) - components)].sum().item()
    return 10 * math.log10(eigenvalues.sum().item() / lost) if lost else math.inf


@cache
def _curve(source: str) -> tuple[tuple[float, float], ...]:
    """Points (bits, distortion) of the rate-distortion function of a memoryless source, on a fine grid of
    values."""
    if source == "uniform":
        values = torch.linspace(-math.sqrt(3), math.sqrt(3), 601, dtype=torch.float64)
        mass = torch.ones_like(values)
    else:
        values = torch.linspace(-9, 9, 1201, dtype=torch.float64)
        mass = torch.exp(-math.sqrt(2) * values.abs())
    mass = mass / mass.sum()
    distance = (values.unsqueeze(1) - values.unsqueeze(0)).square()
    points = []
    output = mass.clone()
    for slope in torch.logspace(-0.3, 2.7, 25, dtype=torch.float64).tolist():
        kernel = torch.exp(-slope * distance)
        for _ in range(60):
            normaliser = kernel @ output
            output = output * ((mass / normaliser) @ kernel)
        normaliser = kernel @ output
        joint = mass.unsqueeze(1) * kernel * output / normaliser.unsqueeze(1)
        error = (joint * distance).sum().item()
        bits = (-slope * error - (mass * normaliser.log()).sum().item()) / math.log(2)
        points.append((bits, error))
    return tuple(points)


def blahut_arimoto_snr(source: str, bits: float) -> float:
    """Decibels that the memoryless source `uniform` or `laplacian` allows at `bits` per value (Blahut 1972,
    Arimoto 1972)."""
    curve = _curve(source)
    for (low, first), (high, second) in pairwise(curve):
        if low <= bits <= high:
            share = (bits - low) / (high - low)
            return -10 * ((1 - share) * math.log10(first) + share * math.log10(second))
    if bits < curve[0][0]:  # towards zero bits and unit distortion
        return -10 * bits / curve[0][0] * math.log10(curve[0][1])
    return -10 * math.log10(curve[-1][1]) + 20 * math.log10(2) * (bits - curve[-1][0])
