"""Q2D2: channels in pairs, each pair snapped to the nearest point of a planar grid (arXiv 2512.01537)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .contract import Config, Quantized, Quantizer, QuantizerError, check_choice, straight_through, zero_loss
from .grids import KINDS, SPACINGS, PairedGrids, PlanarGrid
from .packing import MixedRadix
from .rates import choose_levels

RELEASED_STRETCH = 1.001  # the released code stretches the range by 1e-3


@dataclass(frozen=True, kw_only=True)
class Q2D2Config(Config):
    """grid: `hex`, `rect` or `rhombic`.

    levels: points along x and y of the first pair, of the second pair, and so on; an even number of entries.
    spacing: `ideal`, or `released`, the released code's hexagonal grid, which lacks the factor sqrt(3)/2
    between rows.
    range: what tanh spans. `cell`: the cells of the outer points too, levels / 2 steps (paper, section 3);
        `edge`: up to the outer points, (levels - 1) / 2; `released`: `edge` stretched by 1.001.
    gradient: `unit`, the output is the quantized tanh value and passes its gradient on unchanged;
        `released`: the output is the grid point over floor(levels / 2), with gradient 1 / floor(levels / 2).
    """

    grid: str = "hex"
    levels: tuple[int, ...] = (9, 9, 9, 9, 9, 9)
    spacing: str = "ideal"
    range: str = "cell"
    gradient: str = "unit"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        check_choice("grid", self.grid, KINDS)
        check_choice("spacing", self.spacing, SPACINGS)
        check_choice("range", self.range, ("cell", "edge", "released"))
        check_choice("gradient", self.gradient, ("unit", "released"))
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


class Q2D2(Quantizer):
    """Linear to len(levels) channels, tanh, scale, nearest grid point of each pair, linear back."""

    config_class = Q2D2Config
    family = "planar"
    paper = "arXiv 2512.01537"
    fit_options = ("channels",)
    config: Q2D2Config

    scale: Tensor
    normalise: Tensor

    def __init__(self, dim: int, config: Q2D2Config) -> None:
        super().__init__(dim, config)
        levels = torch.tensor(config.levels, dtype=torch.float64)
        pitch = torch.tensor([pitch for grid in config.grids for pitch in grid.pitch], dtype=torch.float64)
        half = {"cell": levels / 2, "edge": (levels - 1) / 2, "released": (levels - 1) / 2 * RELEASED_STRETCH}
        scale = half[config.range] * pitch
        normalise = levels.div(2, rounding_mode="floor") if config.gradient == "released" else scale
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("normalise", normalise.float(), persistent=False)
        self.grids = config.grids
        self.paired = PairedGrids(config.grids)
        self.packing = MixedRadix(self.paired.sizes)
        self.codebook_sizes = self.packing.stream_sizes
        self.project_in = nn.Linear(dim, len(config.levels))
        self.project_out = nn.Linear(len(config.levels), dim)

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in options.items() if name != "channels"}
        if "levels" in rest:
            raise QuantizerError("levels and bits both fix the rate; give one of them")
        grid = options.get("grid", Q2D2Config.grid)
        check_choice("grid", grid, KINDS)
        released_hex = grid == "hex" and options.get("spacing") == "released"
        kind = "square" if released_hex else grid
        return {**rest, "levels": choose_levels(bits, kind, channels=options.get("channels"))}

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        return self.paired.sizes

    def quantize(self, features: Tensor) -> Quantized:
        bounded = torch.tanh(self.project_in(features))
        with torch.no_grad():
            coordinates = bounded * self.scale
            points, codes = self.paired.nearest(coordinates.unflatten(-1, (-1, 2)))
            value = points.flatten(-2) / self.normalise
        path = bounded / self.normalise if self.config.gradient == "released" else bounded
        diagnostics = {} if self.training else {"coordinates": coordinates}
        out = self.project_out(straight_through(value, path))
        return Quantized(out, self.packing.pack(codes), zero_loss(features), diagnostics)

    def lookup(self, codes: Tensor) -> Tensor:
        points = self.paired.points(self.packing.unpack(codes))
        return self.project_out(points.flatten(-2) / self.normalise)

    def factors(self, codes: Tensor) -> Tensor:
        return self.packing.unpack(codes)

    def surrogate(self, features: Tensor) -> Tensor:
        bounded = torch.tanh(self.project_in(features))
        return self.project_out(bounded / self.normalise if self.config.gradient == "released" else bounded)
