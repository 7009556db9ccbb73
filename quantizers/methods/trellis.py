"""Trellis-coded quantization: scalar levels whose choice is restricted by a path through a trellis, found by
the Viterbi algorithm (Marcellin and Fischer 1990; `quantizers.geometry.trellises` tells how).

The path runs over the channels of a frame, so that each frame is coded and decoded alone; or over time, one
path for each channel, from the first frame of a clip on, which is longer and so gains more. Either way each
channel spends log2 of its levels: one bit of the path and the number of a level in one of four subsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quantizers.contract import Quantized
from quantizers.geometry.trellises import SUBSETS, Trellis, check_states
from quantizers.option_checks import QuantizerError, check_choice, check_spread
from quantizers.parts.channels import ChannelQuantizer, LevelsConfig
from quantizers.parts.straight_through import straight_through, zero_loss
from quantizers.saturation import ChannelRanges, ranges


@dataclass(frozen=True, kw_only=True)
class TrellisConfig(LevelsConfig):
    """Options of `trellis`.

    levels: number of levels of each channel, even. The rate counts these; the codebook has twice as many.
    states: number of states of the trellis.
    over: axis along which a path runs: the `channels` of a frame, or `time`.
    spread: factor on the range of tanh. Above 1 the outer cells hold more values, below 1 fewer.
    """

    levels: tuple[int, ...] = (8, 8, 8, 8, 8, 8)
    states: int = 8
    over: str = "channels"
    spread: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_levels(2)
        for level in self.levels:
            if level % 2:
                raise QuantizerError(
                    f"each of levels must be even, since the path decides one bit of it; {level} is not: use "
                    f"{level + 1}"
                )
        check_states(self.states)
        check_choice("over", self.over, ("channels", "time"))
        check_spread(self.spread)


class TrellisQuantizer(ChannelQuantizer):
    """A linear map to len(levels) channels, tanh, scaling, the best path of levels, a linear map back.

    A channel of L levels has a codebook of 2 L levels at distance 1: c_i = i - (2 L - 1) / 2, i = 0 ...
    2 L - 1. Level i belongs to subset i mod 4. (At the start of a path one to three channels can only have
    subsets 0 and 2; these are shifted by 1/2.) As in lattices, tanh spans L including the cells of the outer
    levels, the output is c_i / L, and the gradient is that of tanh. The sub-code of a channel is
    2 * (i div 4) + bit.
    """

    config_class = TrellisConfig
    blocks_at_once, copies = 1, 16  # a path through channels of one number of levels
    family = "trellis"
    paper = "Marcellin and Fischer 1990"
    config: TrellisConfig

    first: Tensor
    most: Tensor
    scale: Tensor

    def __init__(self, dim: int, config: TrellisConfig) -> None:
        super().__init__(dim, config)
        self.trellis = Trellis(config.states)
        levels = torch.tensor(config.levels, dtype=torch.float32)
        first = -(2 * levels - 1) / 2
        if config.over == "channels":
            first[: self.trellis.even] += 0.5  # so that the half of the codebook that is used is centred
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("most", levels / 2 - 1, persistent=False)  # the last level of a subset
        self.register_buffer("scale", levels * config.spread, persistent=False)
        self.lay_out(len(config.levels), config.levels)
        self.exports = config.over == "channels"  # the other has one step per frame
        self.in_pieces = config.over == "channels"  # the other searches a path through all frames

    @classmethod
    def kind_of_levels(cls, options: Mapping[str, Any]) -> str:
        return "even"

    @property
    def channel_ranges(self) -> ChannelRanges:
        levels = [2 * level for level in self.config.levels]  # of the whole codebook, one step apart
        return ranges(levels, [1.0] * len(levels), self.scale.tolist())

    def quantize(self, features: Tensor) -> Quantized:
        bounded = torch.tanh(self.project_in(features))
        with torch.no_grad():
            coordinates = bounded * self.scale
            factors = self._encode(coordinates)
            value = self._value(factors)
        diagnostics = {} if self.training else {"coordinates": coordinates}
        out = self.project_out(straight_through(value, bounded))
        return Quantized(out, self.packing.pack(factors), zero_loss(features), diagnostics)

    def channel_values(self, codes: Tensor) -> Tensor:
        return self._value(self.packing.unpack(codes))

    def surrogate(self, features: Tensor) -> Tensor:
        return self.project_out(torch.tanh(self.project_in(features)))

    def _encode(self, coordinates: Tensor) -> Tensor:
        """Sub-codes [batch, frames, channels] of the best paths."""
        subset = torch.arange(SUBSETS, device=coordinates.device).view(-1, 1, 1, 1)
        origin = self.first + subset  # [subsets, 1, 1, channels]
        level = torch.round((coordinates - origin) / SUBSETS)
        level = torch.minimum(level.clamp_min_(0), self.most)
        costs = (coordinates - origin - SUBSETS * level).square_()
        if self.config.over == "time":
            bits = self.trellis.search(costs.permute(2, 0, 1, 3).flatten(2))
            bits = bits.view(bits.shape[0], *coordinates.shape[::2]).transpose(0, 1)
        else:
            bits = self.trellis.search(costs.permute(3, 0, 1, 2).flatten(2))
            bits = bits.view(bits.shape[0], *coordinates.shape[:2]).permute(1, 2, 0)
        chosen = level.gather(0, self._subsets(bits).unsqueeze(0))[0]
        return 2 * chosen.long() + bits

    def _subsets(self, bits: Tensor) -> Tensor:
        """Subsets [batch, frames, channels] that the bits of the paths name."""
        if self.config.over == "time":
            return self.trellis.subsets(bits.mT).mT
        return self.trellis.subsets(bits)

    def _value(self, factors: Tensor) -> Tensor:
        index = factors // 2 * SUBSETS + self._subsets(factors % 2)
        return (index + self.first) / self.scale
