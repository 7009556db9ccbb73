"""What a figure of pairs of channels needs to know of a quantizer, whatever its name is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from quantizers.geometry.grids import PlanarGrid
from quantizers.saturation import ChannelRanges, ranges


@dataclass(frozen=True)
class LevelGrid:
    """Two channels that are rounded apart: unit squares, `levels` = (points in x, points in y).

    kind: what to call it.
    """

    levels: tuple[int, int]
    kind: str
    pitch: tuple[float, float] = (1.0, 1.0)  # distance of neighbouring columns and rows

    @property
    def size(self) -> int:
        """Number of points."""
        return self.levels[0] * self.levels[1]

    @cached_property
    def points(self) -> Tensor:
        """All points [size, 2] float32, y running fastest: point x * levels[1] + y."""
        return torch.cartesian_prod(*(torch.arange(level) - (level - 1) / 2 for level in self.levels))


@dataclass(frozen=True)
class PlanarView:
    """A pair of channels seen as a plane, in the units of the diagnostics `coordinates`.

    channels: which two columns of `coordinates` the plane shows, as x and y.
    grid: its points, in the order of the pair's codes.
    factors: the factors that are the pair's code: one, or one for x and one for y; the code is then that of x
        times levels[1] plus that of y.
    reach: half width and half height of what `coordinates` can reach.
    """

    channels: tuple[int, int]
    grid: PlanarGrid | LevelGrid
    factors: tuple[int, ...]
    reach: tuple[float, float]

    @property
    def ranges(self) -> ChannelRanges:
        """Where the levels of the two channels lie."""
        return ranges(self.grid.levels, self.grid.pitch, self.reach)
