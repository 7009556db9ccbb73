"""Q2D2: channels in pairs, each pair snapped to the nearest point of a planar grid (arXiv 2512.01537)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quantizers.contract import Quantized
from quantizers.geometry.grids import KINDS, SPACINGS, PairedGrids, PlanarGrid, cell_area
from quantizers.geometry.views import PlanarView
from quantizers.option_checks import QuantizerError, check_choice, check_spread, check_weight
from quantizers.parts.activations import SLOPES, bounded
from quantizers.parts.channels import ChannelQuantizer, LevelsConfig
from quantizers.parts.rotation import rotate_to
from quantizers.parts.stage_dropout import DroppedChannels
from quantizers.parts.straight_through import straight_through, zero_loss
from quantizers.rate_estimate import Cells
from quantizers.saturation import ChannelRanges, ranges

GRADIENTS = ("unit", "released", "rotation", "noise")
RELEASED_STRETCH = 1.001  # the released code stretches the range by 1e-3


@dataclass(frozen=True, kw_only=True)
class Q2D2Config(LevelsConfig):
    """Options of `q2d2-*`.

    grid: `hex`, `rect` or `rhombic`.
    levels: points along x and y of the first pair of channels, then of the second pair, and so on; an even
        number of entries.
    spacing: `ideal` is the regular hexagonal grid. `released` is the grid of the released code, which lacks
        the factor sqrt(3)/2 between rows.
    range: range of tanh. `cell` also covers the cells of the outer points, levels / 2 steps (paper, section
        3). `edge` reaches the outer points, (levels - 1) / 2 steps. `released` is `edge` times 1.001.
    spread: factor on the range. Above 1 the outer cells hold more values, below 1 fewer.
    activation: `tanh`, or `sigmoid` as in iFSQ (arXiv 2601.17124), see `parts.activations`.
    gradient: `unit` outputs the quantized tanh value with gradient 1. `released` outputs the grid point
        divided by floor(levels / 2), with that gradient. `rotation` is the rotation trick (arXiv 2410.06424)
        in the plane of each pair; the cell at the origin passes no gradient. `noise` is `unit`, but training
        adds uniform noise of the shape of a cell instead of quantizing (Zamir and Feder 1996, On lattice
        quantization noise; Balle et al., arXiv 1611.01704).
    dropout: share of the clips of a training batch that are decoded from a random number of first pairs,
        so that every number of them can be decoded (see `parts.stage_dropout`).
    """

    added = ("activation", "dropout")

    grid: str = "hex"
    spacing: str = "ideal"
    range: str = "cell"
    gradient: str = "unit"
    spread: float = 1.0
    activation: str = "tanh"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("grid", self.grid, KINDS)
        check_choice("spacing", self.spacing, SPACINGS)
        check_choice("range", self.range, ("cell", "edge", "released"))
        check_spread(self.spread)
        check_choice("gradient", self.gradient, GRADIENTS)
        check_choice("activation", self.activation, tuple(SLOPES))
        check_weight("dropout", self.dropout, maximum=1.0)
        if not self.levels or len(self.levels) % 2:
            raise QuantizerError(
                f"levels must have an even number of entries, two for each pair of channels; {self.levels} "
                f"has {len(self.levels)}"
            )
        _ = self.grids  # each pair checks its levels

    @property
    def grids(self) -> tuple[PlanarGrid, ...]:
        """One planar grid for each pair of channels."""
        pairs = zip(self.levels[::2], self.levels[1::2], strict=True)
        return tuple(PlanarGrid(self.grid, pair, self.spacing) for pair in pairs)

    @property
    def half_ranges(self) -> tuple[float, ...]:
        """What tanh of each channel is multiplied by, in grid units."""
        pitches = [pitch for grid in self.grids for pitch in grid.pitch]
        return tuple(
            _half_range(level, self.range) * pitch * self.spread
            for level, pitch in zip(self.levels, pitches, strict=True)
        )


def _half_range(level: int, reach: str) -> float:
    if reach == "cell":
        return level / 2
    return (level - 1) / 2 * (RELEASED_STRETCH if reach == "released" else 1.0)


class Q2D2(DroppedChannels, ChannelQuantizer):
    """A linear map to len(levels) channels, tanh, scaling, the nearest grid points, a linear map back."""

    config_class = Q2D2Config
    family = "planar"
    paper = "arXiv 2512.01537"
    stage_name = "pairs"
    config: Q2D2Config

    scale: Tensor
    normalise: Tensor
    between: Tensor

    def __init__(self, dim: int, config: Q2D2Config) -> None:
        super().__init__(dim, config)
        levels = torch.tensor(config.levels, dtype=torch.float64)
        scale = torch.tensor(config.half_ranges, dtype=torch.float64)
        normalise = levels.div(2, rounding_mode="floor") if config.gradient == "released" else scale
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("normalise", normalise.float(), persistent=False)
        self.register_buffer("between", (levels % 2 == 0).float() / 2, persistent=False)
        self.grids = config.grids
        self.paired = PairedGrids(config.grids)
        self.lay_out(len(config.levels), self.paired.sizes)

    @classmethod
    def kind_of_levels(cls, options: Mapping[str, Any]) -> str:
        grid: str = options.get("grid", Q2D2Config.grid)
        check_choice("grid", grid, KINDS)
        released_hex = grid == "hex" and options.get("spacing") == "released"
        return "square" if released_hex else grid

    @classmethod
    def stages_of(cls, config: Q2D2Config) -> int:
        return len(config.levels) // 2

    @classmethod
    def first_of(cls, config: Q2D2Config, stages: int) -> Q2D2Config:
        return replace(config, levels=config.levels[: 2 * stages])

    @classmethod
    def planar_views(cls, config: Q2D2Config) -> tuple[PlanarView, ...]:
        reach = config.half_ranges
        return tuple(
            PlanarView((2 * i, 2 * i + 1), grid, (i,), (reach[2 * i], reach[2 * i + 1]))
            for i, grid in enumerate(config.grids)
        )

    @property
    def channel_ranges(self) -> ChannelRanges:
        pitches = [pitch for grid in self.grids for pitch in grid.pitch]
        return ranges(self.config.levels, pitches, self.config.half_ranges)

    def quantize(self, features: Tensor) -> Quantized:
        unit = bounded(self.project_in(features), self.config.activation)
        with torch.no_grad():
            coordinates = unit * self.scale
            points, codes = self.paired.nearest(coordinates.unflatten(-1, (-1, 2)))
            if self.training and self.config.gradient == "noise":
                points = coordinates.unflatten(-1, (-1, 2)) + self.paired.cell_noise(points)
            value = points.flatten(-2) / self.normalise
        diagnostics = {} if self.training else {"coordinates": coordinates}
        out = self.project_out(self.without_dropped(self._with_gradient(value, unit)))
        return Quantized(out, self.packing.pack(codes), zero_loss(features), diagnostics)

    def channel_values(self, codes: Tensor) -> Tensor:
        return self.paired.points(self.packing.unpack(codes)).flatten(-2) / self.normalise

    @property
    def steps(self) -> tuple[tuple[int, ...], ...]:
        return tuple(zip(self.config.levels[::2], self.config.levels[1::2], strict=True))

    def surrogate(self, features: Tensor) -> Tensor | None:
        if self.drops or self.config.gradient == "rotation":
            return None
        unit = bounded(self.project_in(features), self.config.activation)
        return self.project_out(unit / self.normalise if self.config.gradient == "released" else unit)

    @classmethod
    def estimates_rate(cls, config: Q2D2Config) -> bool:
        return True

    def cells(self, features: Tensor) -> Cells:
        """In units of the square root of a cell's area; points of an even number of columns lie between whole
        numbers."""
        unit = bounded(self.project_in(features), self.config.activation)
        edge = cell_area(self.config.grid, self.config.spacing) ** 0.5
        reach = self.scale / edge
        offset = self.between if self.config.grid == "rect" else 0.0
        lowest, highest = torch.ceil(-reach - offset - 0.5), torch.floor(reach - offset + 0.5)
        most = math.ceil(2 * max(self.config.half_ranges) / edge) + 3
        return Cells(unit * reach - offset, lowest, highest, most)

    def _with_gradient(self, value: Tensor, unit: Tensor) -> Tensor:
        if self.config.gradient == "rotation":
            return rotate_to(unit.unflatten(-1, (-1, 2)), value.unflatten(-1, (-1, 2))).flatten(-2)
        return straight_through(value, unit / self.normalise if self.config.gradient == "released" else unit)
