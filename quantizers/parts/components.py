"""Principal components and least squares in float64, for quantizers that start from data.

All of it is computed on the CPU, whatever device the features are on, so that a start does not depend on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DEAD = 1e-13  # share of the power below which a component is the rounding of float32 features
ROUNDING = 1e-5  # share of its size by which a constant varies, once float32 arithmetic has summed it
SMALL = 1e-3  # scale of rows that carry no component
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
    determine, get the solution of least norm. Those that vary by less than `ROUNDING` of their size do not
    vary: means of thousands of equal float32 values differ by as much.
    """
    inputs, outputs = inputs.cpu().double(), outputs.cpu().double()
    means = inputs.mean(0), outputs.mean(0)
    left, right = _standard(inputs), outputs - means[1]
    weight = (torch.linalg.pinv(left.mT @ left, rtol=1e-10, hermitian=True) @ (left.mT @ right)).mT
    weight = weight / _deviation(inputs, inputs - means[0])
    return weight, means[1] - weight @ means[0]


def set_linear(linear: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Copy `weight` [out, in] and `bias` [out] into a linear map."""
    assert isinstance(linear, nn.Linear)
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)


def set_components(linear: nn.Module, features: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Make `linear` the map to the first principal components of `features` [frames, dim], at unit length.

    groups: of as many outputs, which get components in the order of their variances, each the group that has
    the least product of variances so far and room left. So codebooks of equal sizes have equally much to tell
    (eigenvalue allocation of Ge et al. 2013, Optimized product quantization, section 4). Outputs beyond the
    number of components are random directions, made small.

    Returns the way back, a weight [dim, outputs] and a bias [dim]: the directions themselves, with zeros for
    outputs that carry no component. Codes that are means of what chose them, as those of k-means, are best
    read at this gain of 1. Least squares would give a component of little variance, of which the codes tell
    nothing, a gain of 100 and more, and the first steps of training would move the output by many times its
    range.
    """
    assert isinstance(linear, nn.Linear)
    components = principal_components(features)
    size = linear.weight.shape[0] // groups
    rows = torch.rand(linear.weight.shape, generator=generator(), dtype=torch.float64) * 2 - 1
    rows *= SMALL
    back = torch.zeros_like(rows)
    logs, filled = [0.0] * groups, [0] * groups
    for variance, direction in zip(components.variances, components.directions.mT, strict=True):
        open_groups = [group for group in range(groups) if filled[group] < size]
        if not open_groups:
            break
        group = min(open_groups, key=lambda group: logs[group])
        rows[group * size + filled[group]] = direction
        back[group * size + filled[group]] = direction
        filled[group] += 1
        logs[group] += math.log(float(variance / components.variances[-1]))
    set_linear(linear, rows, -rows @ components.mean)
    return back.mT, components.mean


def unexplained(inputs: Tensor, outputs: Tensor, width: int) -> Tensor:
    """Mean squared error [n] float64 of each column of `outputs` [frames, n], told from its block of `inputs`
    [frames, n] by an affine map.

    width: of the blocks, which divides n.
    """
    left, right = (values.cpu().double().unflatten(1, (-1, width)) for values in (inputs, outputs))
    left, right = _standard(left), right - right.mean(0)
    gram = torch.einsum("fbi,fbj->bij", left, left)
    cross = torch.einsum("fbi,fbj->bij", left, right)
    explained = (cross * (torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ cross)).sum(1)
    return ((right.square().sum(0) - explained).clamp_min(0) / len(left)).flatten()


def _standard(inputs: Tensor) -> Tensor:
    """`inputs` [frames, ...] with a mean of 0 and a deviation of 1; 0 where they vary by rounding alone.

    So the cut between signal and rounding does not depend on units.
    """
    centred = inputs - inputs.mean(0)
    return centred / _deviation(inputs, centred)


def _deviation(inputs: Tensor, centred: Tensor) -> Tensor:
    deviation = centred.square().mean(0).sqrt()
    return torch.where(deviation > ROUNDING * inputs.abs().amax(0), deviation, torch.inf)
