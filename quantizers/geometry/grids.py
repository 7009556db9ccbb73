"""Planar grids: finite pieces of a lattice in the plane, with exact nearest points in closed form.

Every grid here is the union of at most two rectangular arrays of points (cosets of a rectangular
sublattice). In each array the nearest point is a rounding and a clamp per axis; the nearest point of the
grid is the nearer of the two (Conway and Sloane, Sphere Packings, Lattices and Groups, chapter 20). Cost
and memory do not depend on the number of points, and no distance to a list of points is ever computed.

Grid units: neighbours in a row are 1 apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from quantizers.integers import whole
from quantizers.option_checks import QuantizerError, check_choice, check_count

KINDS = ("hex", "rect", "rhombic")
SPACINGS = ("ideal", "released")
MOST_LEVELS = 2**20
ROW = math.sqrt(3) / 2  # distance of the rows of the hexagonal lattice A2


@dataclass(frozen=True)
class Array:
    """A rectangular array of points: point (i, j) lies at (x + i * step_x, y + j * step_y); j runs fastest
    in codes."""

    origin: tuple[float, float]
    step: tuple[float, float]
    count: tuple[int, int]

    @property
    def size(self) -> int:
        return self.count[0] * self.count[1]


@dataclass(frozen=True)
class PlanarGrid:
    """A planar grid of `levels` = (points in x, points in y).

    kind: `rect`, unit squares, any levels from 2. `rhombic`, unit squares with their mid-points, odd levels.
        `hex`, rows sqrt(3)/2 apart, shifted by 1/2 in turns, symmetric about the origin, which it contains;
        the second level, the number of rows, is odd.
    spacing: `released` makes `hex` the grid of the released Q2D2 code: rows 1 apart, shifted by +1/4 and
        -1/4 in turns, the first level used for both axes.
    """

    kind: str
    levels: tuple[int, int]
    spacing: str = "ideal"

    def __post_init__(self) -> None:
        check_choice("grid", self.kind, KINDS)
        check_choice("spacing", self.spacing, SPACINGS)
        for level in self.levels:
            check_count("each of levels", level, minimum=2)
            if level > MOST_LEVELS:
                raise QuantizerError(
                    f"{level} levels are too many: above {MOST_LEVELS}, float32 no longer tells points apart"
                )
        if self.kind == "rhombic" and not (self.levels[0] % 2 and self.levels[1] % 2):
            raise QuantizerError(
                f"a rhombic grid needs odd levels, so that it contains the origin; {self.levels} has an even "
                f"one: use {tuple(level + 1 - level % 2 for level in self.levels)}"
            )
        if self.kind == "hex" and self.spacing == "ideal" and self.levels[1] % 2 == 0:
            raise QuantizerError(
                f"a hexagonal grid needs an odd number of rows (its second level), so that it contains the "
                f"origin; {self.levels} has {self.levels[1]}: use {(self.levels[0], self.levels[1] + 1)}"
            )

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The one or two rectangular arrays whose union is the grid."""
        (columns, rows), (x, y) = self.levels, ((level - 1) / 2 for level in self.levels)
        if self.kind == "rect":
            return (Array((-x, -y), (1.0, 1.0), self.levels),)
        if self.kind == "rhombic":
            return (
                Array((-x, -y), (1.0, 1.0), self.levels),
                Array((0.5 - x, 0.5 - y), (1.0, 1.0), (columns - 1, rows - 1)),
            )
        if self.spacing == "released":
            upper = Array((0.25 - x, -x), (1.0, 2.0), (columns, (columns + 1) // 2))
            return (upper, Array((-0.25 - x, 1.0 - x), (1.0, 2.0), (columns, columns // 2)))
        # Rows are numbered from the middle one. The rows that hold integer x have an odd number of points,
        # the others (shifted by 1/2) an even one; `columns` of them in the longer rows.
        whole, shifted = columns - 1 + columns % 2, columns - columns % 2
        below = (rows - 1) // 2
        even, odd = below // 2 * 2, (below + 1) // 2 * 2 - 1  # last even and last odd row number
        grid = [Array((-(whole - 1) / 2, -even * ROW), (1.0, 2 * ROW), (whole, even + 1))]
        if odd > 0:
            grid.append(Array((-(shifted - 1) / 2, -odd * ROW), (1.0, 2 * ROW), (shifted, odd + 1)))
        return tuple(grid)

    @property
    def size(self) -> int:
        """Number of points."""
        return sum(array.size for array in self.arrays)

    @property
    def extent(self) -> tuple[float, float]:
        """Half width and half height of the rectangle of the levels: (levels - 1) / 2 steps of each axis.

        The points of the released hexagonal grid reach 1/4 further in x.
        """
        return (self.levels[0] - 1) / 2 * self.pitch[0], (self.levels[1] - 1) / 2 * self.pitch[1]

    @property
    def pitch(self) -> tuple[float, float]:
        """Distance of neighbouring columns and rows."""
        return 1.0, ROW if self.kind == "hex" and self.spacing == "ideal" else 1.0

    @cached_property
    def points(self) -> Tensor:
        """All points [size, 2] float32, in the order of their codes."""
        return PairedGrids([self]).points(torch.arange(self.size)[:, None])[:, 0]

    def nearest(self, points: Tensor) -> Tensor:
        """Codes [...] int64 of the grid points nearest to `points` [..., 2], in grid units."""
        return PairedGrids([self]).to(points.device).nearest(points.unsqueeze(-2))[1].squeeze(-1)


def cell_area(kind: str, spacing: str = "ideal") -> float:
    """Area of a cell of the grid, in grid units."""
    return {"rect": 1.0, "rhombic": 0.5, "hex": ROW if spacing == "ideal" else 1.0}[kind]


class PairedGrids(nn.Module):
    """One planar grid for each pair of channels, all of one kind and spacing, quantized together without a
    loop.

    Inside, the two axes come first and the points last, [2, pairs, points]: every step is then one pass over
    contiguous memory.
    """

    origin: Tensor
    step: Tensor
    last: Tensor
    rows: Tensor
    first: Tensor
    columns: Tensor

    def __init__(self, grids: Sequence[PlanarGrid]) -> None:
        super().__init__()
        self.sizes = tuple(grid.size for grid in grids)
        self.interleaved = grids[0].kind == "hex" and grids[0].spacing == "released"
        arrays = list(zip(*(grid.arrays for grid in grids), strict=True))  # [coset][pair]
        counts = torch.tensor([[array.count for array in row] for row in arrays])
        constants = {  # [cosets, 2, pairs, 1] and, for codes, [cosets, pairs, 1]
            "origin": torch.tensor([[array.origin for array in row] for row in arrays]).mT.unsqueeze(-1),
            "step": torch.tensor([[array.step for array in row] for row in arrays]).mT.unsqueeze(-1),
            "last": (counts.float() - 1).mT.unsqueeze(-1),
            "rows": counts[..., 1:],
            "first": torch.stack((torch.zeros_like(counts[0, :, :1]), counts[0].prod(-1, keepdim=True))),
            "columns": counts[0, :, :1],
        }
        for name, value in constants.items():
            self.register_buffer(name, value.contiguous(), persistent=False)

    def nearest(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest grid points [..., pairs, 2] and their codes [..., pairs] int64, of `points`
        [..., pairs, 2]."""
        shape = points.shape
        axes = points.reshape(-1, *shape[-2:]).permute(2, 1, 0).contiguous()
        index = self._round(axes, 0)
        found = self._point(index, 0)
        other: Tensor | None = None
        if len(self.origin) == 2:
            other_index = self._round(axes, 1)
            candidate = self._point(other_index, 1)
            other = _squared_length(candidate - axes) < _squared_length(found - axes)
            index = torch.where(other, other_index, index)
            found = torch.where(other, candidate, found)
        return found.permute(2, 1, 0).reshape(shape), self._code(index, other).mT.reshape(shape[:-1])

    def cell_noise(self, points: Tensor) -> Tensor:
        """Noise like `points` [..., pairs, 2], uniform in the cell of a point in the middle of the grid."""
        # What quantization leaves of points that are uniform in one period of the grid.
        spread = (torch.rand_like(points) - 0.5) * self.step[0, ..., 0].mT
        return spread - self.nearest(spread)[0]

    def points(self, codes: Tensor) -> Tensor:
        """Grid points [..., pairs, 2] float32 of `codes` [..., pairs] int64."""
        flat = codes.reshape(-1, codes.shape[-1]).mT  # [pairs, points]
        other: Tensor | None = None
        if self.interleaved:
            row, x = flat // self.columns, flat % self.columns
            other, index = row % 2 == 1, torch.stack((x, row // 2)).float()
        else:
            rows = self.rows[0]
            if len(self.origin) == 2:
                other = flat >= self.first[1]
                flat, rows = (
                    torch.where(other, flat - self.first[1], flat),
                    torch.where(other, self.rows[1], rows),
                )
            index = torch.stack((flat // rows, flat % rows)).float()
        found = self._point(index, 0)
        if other is not None:
            found = torch.where(other, self._point(index, 1), found)
        return found.permute(2, 1, 0).reshape(*codes.shape, 2)

    def _round(self, axes: Tensor, coset: int) -> Tensor:
        steps = (axes - self.origin[coset]) / self.step[coset]
        return torch.minimum(torch.round(steps).clamp_min(0.0), self.last[coset])

    def _point(self, index: Tensor, coset: int) -> Tensor:
        # Multiplied and added apart: a fused step may round otherwise, and decoding would not be exact.
        return index * self.step[coset] + self.origin[coset]

    def _code(self, index: Tensor, other: Tensor | None) -> Tensor:
        """Codes [pairs, points] of indices [2, pairs, points]; `other`: where the second array was nearer."""
        x, y = whole(index)
        if self.interleaved and other is not None:  # rows of the two arrays in turns, x fastest
            return (2 * y + other) * self.columns + x
        if other is None:
            return x * self.rows[0] + y
        return x * torch.where(other, self.rows[1], self.rows[0]) + y + torch.where(other, self.first[1], 0)


def _squared_length(axes: Tensor) -> Tensor:
    """[2, ...] -> [...]."""
    return axes[0] * axes[0] + axes[1] * axes[1]
