"""The plane through a codebook along its first two principal components, and how the codes lie to it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Slice(NamedTuple):
    """A codebook seen from its plane, in the codebook's units.

    points: [codes, 2], the feet of the codes in the plane. distances: [codes], their squared distances from
    it. A vector of the plane at y is nearest to the code that has the least |y - points|^2 + distances, so
    the cells that the plane cuts are those of a power diagram (Aurenhammer 1987), exactly.
    latents: [vectors, 2], the feet of other vectors. explained: [2], the share of the codebook's variance
    along each axis.
    """

    points: Tensor
    distances: Tensor
    latents: Tensor
    explained: Tensor


def principal_slice(codes: Tensor, vectors: Tensor) -> Slice:
    """The slice of the codebook `codes` [codes, dim] through its mean, with `vectors` [n, dim] beside it.

    Computed in float64; the sign of each axis makes the largest component of its direction positive.

    Raises:
        ValueError: fewer than two dimensions.
    """
    if codes.shape[-1] < 2:
        raise ValueError(f"a codebook of dimension {codes.shape[-1]} has no plane")
    codes, vectors = codes.double(), vectors.double()
    middle = codes.mean(0)
    centred = codes - middle
    spread, directions = torch.linalg.eigh(centred.mT @ centred)  # rising
    axes = directions[:, -2:].mT.flip(0)
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    points = centred @ axes.mT
    distances = (centred.square().sum(1) - points.square().sum(1)).clamp_min(0)
    explained = spread[-2:].flip(0).clamp_min(0) / spread.sum().clamp_min(1e-300)
    return Slice(points, distances, (vectors - middle) @ axes.mT, explained)
