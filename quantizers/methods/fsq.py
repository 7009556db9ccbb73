"""Finite scalar quantization: every channel rounded to a few levels (Mentzer et al. 2023, arXiv
2309.15505)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quantizers.contract import Quantized
from quantizers.geometry.views import LevelGrid, PlanarView
from quantizers.integers import whole
from quantizers.option_checks import check_choice, check_weight
from quantizers.parts.activations import SLOPES, bounded
from quantizers.parts.channels import ChannelQuantizer, LevelsConfig
from quantizers.parts.stage_dropout import DroppedChannels
from quantizers.parts.straight_through import straight_through, zero_loss
from quantizers.rate_estimate import Cells
from quantizers.saturation import ChannelRanges, ranges

STRETCH = 1.001  # the published code stretches the range by 1e-3 so that the outer levels are reached


@dataclass(frozen=True, kw_only=True)
class FSQConfig(LevelsConfig):
    """Options of `fsq`.

    levels: number of levels of each channel.
    range: range of tanh. `edge` reaches the outer levels, (levels - 1) / 2, as published. `cell` also covers
        the cells of the outer levels, levels / 2, so that all cells have the same width.
    activation: `tanh`, or `sigmoid` as in iFSQ (arXiv 2601.17124), see `parts.activations`.
    gradient: `unit` is straight-through. `noise` is the same, but training adds uniform noise of the width
        of a cell instead of rounding (Balle et al., arXiv 1611.01704; Stable Codec, arXiv 2411.19842).
    dropout: share of the clips of a training batch that are decoded from a random number of first channels,
        so that every number of them can be decoded (see `parts.stage_dropout`).
    """

    added = ("activation", "gradient", "dropout")

    range: str = "edge"
    activation: str = "tanh"
    gradient: str = "unit"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_levels(3 if self.range == "edge" else 2)
        check_choice("range", self.range, ("edge", "cell"))
        check_choice("activation", self.activation, tuple(SLOPES))
        check_choice("gradient", self.gradient, ("unit", "noise"))
        check_weight("dropout", self.dropout, maximum=1.0)


def half_range(level: int, reach: str) -> float:
    """What tanh is multiplied by, in units of levels."""
    return (level - 1) / 2 * STRETCH if reach == "edge" else level / 2


class FSQ(DroppedChannels, ChannelQuantizer):
    """A linear map to len(levels) channels, tanh, rounding, and a linear map back.

    Equation 1 of the paper: half = (levels - 1) / 2 * 1.001, offset = 1/2 for even levels,
    code = round(half * tanh(z + atanh(offset / half)) - offset), value = code / floor(levels / 2).
    """

    config_class = FSQConfig
    family = "scalar"
    paper = "arXiv 2309.15505"
    config: FSQConfig

    amplitude: Tensor
    offset: Tensor
    shift: Tensor
    scale: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, dim: int, config: FSQConfig) -> None:
        super().__init__(dim, config)
        levels = torch.tensor(config.levels, dtype=torch.float64)
        offset = (levels % 2 == 0).double() / 2
        half = torch.tensor([half_range(level, config.range) for level in config.levels], dtype=torch.float64)
        if config.range == "edge":
            shift = torch.atanh(offset / half)
            scale = levels.div(2, rounding_mode="floor")
            scaled_offset = offset
        else:  # equal cells: level k covers [k, k + 1] - levels / 2
            shift = torch.zeros_like(levels)
            scale, scaled_offset = half, offset
        lowest = -levels.div(2, rounding_mode="floor")
        constants = {"amplitude": half, "offset": scaled_offset, "shift": shift, "scale": scale}
        constants |= {"lowest": lowest, "highest": lowest + levels - 1}
        for name, value in constants.items():
            self.register_buffer(name, value.float(), persistent=False)
        self.lay_out(len(config.levels), config.levels)

    @classmethod
    def least_levels(cls, options: Mapping[str, Any]) -> int:
        return 3 if options.get("range", FSQConfig.range) == "edge" else 2

    @classmethod
    def stages_of(cls, config: FSQConfig) -> int:
        return len(config.levels)

    @classmethod
    def first_of(cls, config: FSQConfig, stages: int) -> FSQConfig:
        return replace(config, levels=config.levels[:stages])

    @classmethod
    def planar_views(cls, config: FSQConfig) -> tuple[PlanarView, ...]:
        """Channels 1 and 2, 3 and 4, and so on; an odd last one is left out."""
        views = []
        for x in range(0, len(config.levels) - 1, 2):
            levels = config.levels[x], config.levels[x + 1]
            reach = half_range(levels[0], config.range), half_range(levels[1], config.range)
            views.append(PlanarView((x, x + 1), LevelGrid(levels, "fsq"), (x, x + 1), reach))
        return tuple(views)

    @property
    def channel_ranges(self) -> ChannelRanges:
        levels = self.config.levels
        return ranges(levels, [1.0] * len(levels), self.amplitude.tolist())

    def quantize(self, features: Tensor) -> Quantized:
        coordinates = self._coordinates(self.project_in(features))
        with torch.no_grad():
            levels = torch.clamp(torch.round(coordinates - self.offset), self.lowest, self.highest)
            codes = self.packing.pack(whole(levels - self.lowest))
            if self.training and self.config.gradient == "noise":
                levels = coordinates - self.offset + torch.rand_like(coordinates) - 0.5
        quantized = self.without_dropped(straight_through(self._value(levels), coordinates / self.scale))
        diagnostics = {} if self.training else {"coordinates": coordinates.detach()}
        return Quantized(self.project_out(quantized), codes, zero_loss(features), diagnostics)

    def channel_values(self, codes: Tensor) -> Tensor:
        return self._value(self.packing.unpack(codes).float() + self.lowest)

    @property
    def middle(self) -> Tensor:
        return -self.shift / SLOPES[self.config.activation]

    def surrogate(self, features: Tensor) -> Tensor | None:
        if self.drops:
            return None
        return self.project_out(self._coordinates(self.project_in(features)) / self.scale)

    @classmethod
    def estimates_rate(cls, config: FSQConfig) -> bool:
        return True

    def cells(self, features: Tensor) -> Cells:
        positions = self._coordinates(self.project_in(features)) - self.offset
        return Cells(positions, self.lowest, self.highest, max(self.config.levels))

    def _coordinates(self, low: Tensor) -> Tensor:
        """Channels in units of levels, before the offset of even levels is taken off."""
        shift = self.shift / SLOPES[self.config.activation]
        return bounded(low + shift, self.config.activation) * self.amplitude

    def _value(self, levels: Tensor) -> Tensor:
        if self.config.range == "edge":
            return levels / self.scale
        return (levels + self.offset) / self.scale
