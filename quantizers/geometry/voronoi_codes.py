"""Voronoi codes: the points of any lattice in its Voronoi cell enlarged by a whole number.

They are encoded and decoded by their integer coordinates modulo that number, without a table (Conway and
Sloane, "A fast encoding method for lattice codes and quantizers", IEEE Trans. IT 29, 1983).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from quantizers.integers import whole

_PULLS = 12  # most steps towards the origin of a point outside the enlarged Voronoi cell


@dataclass(frozen=True)
class VoronoiCode:
    """A code of count^n points.

    count: by what the cell is enlarged. basis: [n, n] float64, one vector a row. nearest: lattice points of
    points [tokens, n]; any map that commutes with shifts by lattice vectors makes a code, the nearest point
    the one of Voronoi's cells. centre: [n], see `off_centre`. triangular: whether the basis is lower
    triangular.
    """

    count: int
    basis: Tensor
    nearest: Callable[[Tensor], Tensor]
    centre: Tensor
    triangular: bool = False

    def encode(self, points: Tensor) -> Tensor:
        """Coordinates [..., n] int64, each below `count`, of the code point for `points` [..., n].

        A point outside is pulled towards the origin until its nearest lattice point is in the code.
        """
        flat = points.reshape(-1, points.shape[-1]).to(self.basis.dtype)
        near = self.nearest(flat)
        outside = self._outside(near).nonzero().squeeze(-1)
        for _ in range(_PULLS):
            if not len(outside):
                break
            offset = flat[outside] - self.centre
            facet = self.nearest(offset / self.count)
            beyond = 2 * (offset * facet).sum(-1, keepdim=True)
            # To the facet that cuts the ray; a point that is inside, though its nearest point is not, a
            # little inwards.
            pull = torch.where(beyond > 0, self.count * facet.square().sum(-1, keepdim=True) / beyond, 0.9)
            flat[outside] = self.centre + offset * pull.clamp_max(0.98)
            near[outside] = self.nearest(flat[outside])
            outside = outside[self._outside(near[outside])]
        near[outside] = 0.0  # the origin is in every code
        return whole(self._coordinates(near).round()).remainder(self.count).view(points.shape)

    def decode(self, coordinates: Tensor) -> Tensor:
        """Points [..., n] of `coordinates`, in the precision of the basis."""
        points = coordinates.to(self.basis.dtype).flatten(0, -2) @ self.basis
        return self._reduce(points).view(coordinates.shape)

    def _coordinates(self, points: Tensor) -> Tensor:
        if self.triangular:
            return torch.linalg.solve_triangular(self.basis.mT, points.mT, upper=True).mT
        return torch.linalg.solve(self.basis.mT, points.mT).mT

    def _outside(self, points: Tensor) -> Tensor:
        return (self._reduce(points) - points).abs().amax(-1) > 1e-6

    def _reduce(self, points: Tensor) -> Tensor:
        """The code point that differs from each lattice point by a lattice vector `count` times over."""
        return points - self.count * self.nearest((points - self.centre) / self.count)


def off_centre(n: int, edge: float) -> Tensor:
    """A shift [n] float64 of the enlarged cell, so little that it only keeps lattice points off its boundary.

    edge: of a cube of a cell's volume.
    """
    return 0.03 * torch.sin(1.7 * torch.arange(1, n + 1, dtype=torch.float64)) * edge
