"""Lattices whose basis is learned: nearest points by a bounded search, and a cell of unit volume.

The nearest point of x in a lattice of basis B is looked for in three steps:

1. Babai's rounding, u = x B^-1 rounded (Babai 1986, "On Lovasz' lattice reduction and the nearest lattice
   point problem", Combinatorica 6).
2. All 3^n neighbours whose coordinates differ by -1, 0 or 1; the nearest is taken.
3. The second step again, from there, `ROUNDS` times in all (Agrell, Eriksson, Vardy and Zeger 2002, "Closest
   point search in lattices", IEEE Trans. IT 48, has searches that are exact for every basis).

It is exact where every vector that bounds the Voronoi cell has such coordinates, as with a reduced basis of
two or three dimensions (Conway and Sloane 1992, "Low-dimensional lattices VI"), and few steps lead there.
The search commutes with shifts by lattice vectors, whatever the basis.

The second moment falls along its own gradient, by which Agrell and Allen found the best lattices ("On the
best lattice quantizers", IEEE Trans. IT 69, 2023): of |(u - k) B|^2 in B, with the coordinates u of a point
and k of its nearest lattice point held constant, and the determinant of B held at 1.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from quantizers.geometry.lattices import DIMENSIONS, lattice

DIMENSIONS_RANGE = (2, 8)
STARTS = ("cubic", *(name for name, n in DIMENSIONS.items() if 1 < n <= 8))
ROUNDS = 3
SKEW = 0.05  # of the cubic start, whose second moment is stationary, so that its gradient is zero
_BLOCK = 2**22  # values of a table of distances


class LearnedLattice(nn.Module):
    """A lattice of n dimensions with a basis of determinant 1 or -1, from the parameter `generator` [n, n].

    start: `cubic`, a little skewed, or the name of a lattice of n dimensions.
    """

    steps: Tensor

    def __init__(self, n: int, start: str = "cubic") -> None:
        super().__init__()
        self.n = n
        self.generator = nn.Parameter(starting_basis(n, start).float())
        steps = torch.tensor(list(itertools.product((0, 1, -1), repeat=n)), dtype=torch.float64)
        self.register_buffer("steps", steps, persistent=False)  # that of zeros first, so that it wins ties

    @property
    def basis(self) -> Tensor:
        """[n, n] float64, one vector a row, of determinant 1 or -1; with a gradient."""
        generator = self.generator.double()
        return generator / torch.linalg.det(generator).abs().clamp_min(1e-12) ** (1 / self.n)

    def coordinates(self, points: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
        """Real coordinates of `points` [tokens, n] float64 in `basis`, and the whole ones of the nearest
        point, both [tokens, n]."""
        real = torch.linalg.solve(basis.mT, points.mT).mT.contiguous()
        whole = real.round()
        table = self.steps @ basis
        lengths = table.square().sum(-1)
        rows = max(1, _BLOCK // len(table))
        for _ in range(ROUNDS):
            moved = []
            for part in ((real - whole) @ basis).split(rows):
                best = (lengths - 2 * part @ table.mT).argmin(-1)
                moved.append(self.steps[best])
            whole = whole + torch.cat(moved) if moved else whole
        return real, whole

    def nearest(self, points: Tensor, basis: Tensor) -> Tensor:
        """Lattice points of `points` [tokens, n] float64."""
        return self.coordinates(points, basis)[1] @ basis

    def second_moment(self, points: Tensor) -> Tensor:
        """Mean squared error per dimension of `points` [tokens, n], in units of the cell's volume, with the
        gradient of Agrell and Allen in `generator` and none in `points`."""
        basis = self.basis
        with torch.no_grad():
            real, whole = self.coordinates(points.detach().double(), basis)
        return ((real - whole) @ basis).square().mean()

    @torch.no_grad()
    def figure_of_merit(self, samples: int = 100_000, seed: int = 0) -> float:
        """Normalised second moment of the lattice, measured with points uniform in a cell."""
        basis = self.basis
        draw = torch.Generator().manual_seed(seed)
        points = torch.rand(samples, self.n, generator=draw, dtype=torch.float64).to(basis.device) @ basis
        return self.second_moment(points).item()


def starting_basis(n: int, start: str) -> Tensor:
    """A basis [n, n] float64 of determinant 1 of the lattice called `start`."""
    if start == "cubic":
        places = torch.arange(n * n, dtype=torch.float64).view(n, n)
        return torch.eye(n, dtype=torch.float64) + SKEW * torch.tril(torch.sin(1 + places), -1)
    basis = reduced(lattice(start).basis)
    return basis / math.exp(float(torch.linalg.slogdet(basis).logabsdet) / n)


def reduced(basis: Tensor, delta: float = 0.99) -> Tensor:
    """The basis [n, n] float64 of the same lattice with short vectors that are nearly orthogonal (Lenstra,
    Lenstra and Lovasz 1982, "Factoring polynomials with rational coefficients")."""
    rows = basis.clone()
    place = 1
    while place < len(rows):
        for other in reversed(range(place)):
            share, _ = _projections(rows)
            rows[place] -= share[place, other].round() * rows[other]
        share, norms = _projections(rows)
        if norms[place] >= (delta - share[place, place - 1] ** 2) * norms[place - 1]:
            place += 1
        else:
            rows[[place - 1, place]] = rows[[place, place - 1]]
            place = max(place - 1, 1)
    return rows


def _projections(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Gram and Schmidt: of each row its share [n, n] in the directions of the rows before, and the squared
    norm [n] of what is left."""
    _, upper = torch.linalg.qr(rows.mT)
    diagonal = upper.diagonal()
    return (upper / diagonal.unsqueeze(1)).mT, diagonal.square()
