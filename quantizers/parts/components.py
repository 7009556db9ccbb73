"""Principal components and least squares in float64, for quantizers that start from data.

All of it is computed on the CPU, whatever device the features are on, so that a start does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DEAD = 1e-13  # share of the power below which a component is the rounding of float32 features
SEED = 1512_01537  # of the generators that starts draw from; the global one is left alone


@dataclass(frozen=True)
class Components:
    """Principal components of features, those of no variance left out.

    mean: [dim]. variances: [rank], falling. directions: [dim, rank], orthonormal columns whose largest entry
    is positive. All float64 on the CPU; `rank` is 0 where all frames are equal.
    """

    mean: Tensor
    variances: Tensor
    directions: Tensor

    @property
    def rank(self) -> int:
        return len(self.variances)

    def scores(self, features: Tensor) -> Tensor:
        """Coordinates [frames, rank] of `features` [frames, dim] along the components, float64."""
        return (features.cpu().double() - self.mean) @ self.directions


def generator() -> torch.Generator:
    """A new generator for a start, always the same."""
    return torch.Generator().manual_seed(SEED)


def principal_components(features: Tensor) -> Components:
    """Principal components of `features` [frames, dim], which are finite and at least one frame."""
    features = features.cpu().double()
    mean = features.mean(0)
    centred = features - mean
    variances, directions = torch.linalg.eigh(centred.mT @ centred / len(centred))  # rising
    variances, directions = variances.flip(0), directions.flip(1)
    power = max(float(variances[0]), float(mean.square().max()))
    alive = variances > DEAD * power
    variances, directions = variances[alive], directions[:, alive]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return Components(mean, variances, directions * largest.sign())


def least_squares(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map with the least squared error from `inputs` [frames, n] to `outputs` [frames, m].

    Its weight [m, n] and bias [m], float64 on the CPU. Inputs that do not vary, or that others already
    determine, get the solution of least norm.
    """
    inputs, outputs = inputs.cpu().double(), outputs.cpu().double()
    means = inputs.mean(0), outputs.mean(0)
    left, right = inputs - means[0], outputs - means[1]
    # Standardised, so that the cut between signal and rounding does not depend on units.
    scale = left.square().mean(0).sqrt()
    scale = torch.where(scale > 1e-7 * inputs.abs().amax(0), scale, torch.inf)
    left = left / scale
    weight = (torch.linalg.pinv(left.mT @ left, rtol=1e-10, hermitian=True) @ (left.mT @ right)).mT / scale
    return weight, means[1] - weight @ means[0]


def set_linear(linear: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Copy `weight` [out, in] and `bias` [out] into a linear map."""
    assert isinstance(linear, nn.Linear)
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)


def set_components(linear: nn.Module, features: Tensor, groups: int = 1) -> None:
    """Make `linear` the map to the first principal components of `features` [frames, dim], at unit length.

    groups: of as many outputs, which get components in the order of their variances, each the group that has
    the least product of variances so far and room left. So codebooks of equal sizes have equally much to tell
    (eigenvalue allocation of Ge et al. 2013, Optimized product quantization, section 4). Outputs beyond the
    number of components are random directions, made small.
    """
    assert isinstance(linear, nn.Linear)
    components = principal_components(features)
    size = linear.weight.shape[0] // groups
    rows = torch.rand(linear.weight.shape, generator=generator(), dtype=torch.float64) * 2 - 1
    rows *= 1e-3
    logs, filled = [0.0] * groups, [0] * groups
    for variance, direction in zip(components.variances, components.directions.mT, strict=True):
        open_groups = [group for group in range(groups) if filled[group] < size]
        if not open_groups:
            break
        group = min(open_groups, key=lambda group: logs[group])
        rows[group * size + filled[group]] = direction
        filled[group] += 1
        logs[group] += math.log(float(variance / components.variances[-1]))
    set_linear(linear, rows, -rows @ components.mean)


def unexplained(inputs: Tensor, outputs: Tensor, weights: Tensor, blocks: Sequence[int]) -> Tensor:
    """Squared error of each block of `outputs` [frames, n], read out of the same block of `inputs` alone.

    weights: [n], what a unit of squared error counts in each column. blocks: their widths, n in all. Returns
    [blocks] float64.
    """
    errors, first = [], 0
    for width in blocks:
        part = slice(first, first + width)
        weight, bias = least_squares(inputs[:, part], outputs[:, part])
        left = outputs[:, part] - inputs[:, part].cpu().double() @ weight.mT - bias
        errors.append((left.square().mean(0) * weights[part]).sum())
        first += width
    return torch.stack(errors)
