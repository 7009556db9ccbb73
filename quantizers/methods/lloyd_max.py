"""Lloyd-Max scalar quantization: every channel snapped to the nearest of the values that leave a Gaussian, or
the data, the least squared error (Lloyd 1982, Max 1960)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantizers.contract import Quantized
from quantizers.option_checks import QuantizerError, check_choice, check_weight
from quantizers.parts.channels import ChannelQuantizer, LevelsConfig
from quantizers.parts.components import generator, least_squares, set_linear
from quantizers.parts.optimal_levels import gaussian_levels, lloyd_max
from quantizers.parts.straight_through import straight_through, zero_loss

MOST_LEVELS = 4096  # of a channel


@dataclass(frozen=True, kw_only=True)
class LloydMaxConfig(LevelsConfig):
    """Options of `lloyd-max`.

    levels: number of values of each channel.
    values: values that a start sets. `data`: those of each channel, by Lloyd's algorithm. `gaussian`: those
        of a Gaussian of unit variance, which are also the values without a start.
    rotation: linear map in front. `learned` is trained, as in all quantizers with channels. `random` is a
        fixed orthogonal map, the same for all seeds; a start sets its mean and one scale for all channels.
        With `values: gaussian` codes are then data-oblivious except for these two, as in TurboQuant (Zandieh
        et al. 2025, arXiv 2504.19874). The linear map back is always trained.
    commitment: weight of the loss that moves inputs to their values. A straight-through gradient pushes
        inputs outwards: for the best value v of x, E[(v - x) x] = -E[(v - x)^2]. If the loss is the squared
        error of v and this weight is 1, both forces cancel where the values fit, and training stays there.
    """

    values: str = "data"
    rotation: str = "learned"
    commitment: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_levels(2)
        if max(self.levels) > MOST_LEVELS:
            raise QuantizerError(
                f"each of levels must be at most {MOST_LEVELS:,}, since all values of a channel are held, "
                f"not {max(self.levels):,}"
            )
        check_choice("values", self.values, ("data", "gaussian"))
        check_choice("rotation", self.rotation, ("learned", "random"))
        check_weight("commitment", self.commitment)


class LloydMax(ChannelQuantizer):
    """A linear map to len(levels) channels, the nearest of the values of each channel, a linear map back.

    The values are fixed after a start, unlike those of `latent`. The gradient is that of the identity.
    """

    config_class = LloydMaxConfig
    family = "scalar"
    paper = "Lloyd 1982, Max 1960"
    config: LloydMaxConfig

    values: Tensor
    beyond: Tensor

    def __init__(self, dim: int, config: LloydMaxConfig) -> None:
        super().__init__(dim, config)
        self.lay_out(len(config.levels), config.levels)
        values = torch.zeros(len(config.levels), max(config.levels))
        for channel, level in enumerate(config.levels):
            values[channel, :level] = gaussian_levels(level)
        self.register_buffer("values", values)
        beyond = torch.arange(1, max(config.levels)) >= torch.tensor(config.levels).unsqueeze(-1)
        self.register_buffer("beyond", beyond, persistent=False)  # edges [channels, levels - 1] that are none
        if config.rotation == "random":
            rows = random_rows(len(config.levels), dim)
            self.project_in = FixedLinear(rows)
            with torch.no_grad():
                set_linear(self.project_out, rows.mT / max(1.0, len(rows) / dim), torch.zeros(dim))

    @classmethod
    def least_levels(cls, options: Mapping[str, Any]) -> int:
        return 2

    def initialise(self, features: Tensor) -> None:
        """As in every quantizer of channels; with a random rotation, the mean and a scale of its own."""
        if self.config.rotation == "learned":
            super().initialise(features)
            return
        frames = features.cpu().double()
        mean, rows = frames.mean(0), random_rows(len(self.config.levels), self.dim).double()
        deviation = ((frames - mean) @ rows.mT).square().mean().sqrt()
        if deviation > 1e-7 * mean.abs().amax():
            rows = rows / deviation
        set_linear(self.project_in, rows, -rows @ mean)
        self.refine(features)
        set_linear(self.project_out, *least_squares(self.values_of(features), features))

    def refine(self, features: Tensor) -> None:
        """Of each channel the values that leave it the least error; a channel that does not vary keeps those
        of a Gaussian."""
        low = self.project_in(features).mT.cpu().double().contiguous()
        for channel, level in enumerate(self.config.levels):
            values = gaussian_levels(level)
            if self.config.values == "data" and low[channel].std(correction=0) > 1e-9:
                spread = low[channel].std(correction=0)
                values = lloyd_max(low[channel], values * spread + low[channel].mean())
            self.values[channel, :level] = values.to(self.values)

    def quantize(self, features: Tensor) -> Quantized:
        low = self.project_in(features)
        with torch.no_grad():
            index = self._nearest(low)
            value = self._of(index)
        loss = zero_loss(features)
        if self.training and low.numel():
            loss = self.config.commitment * F.mse_loss(low, value)
        return Quantized(self.project_out(straight_through(value, low)), self.packing.pack(index), loss, {})

    def channel_values(self, codes: Tensor) -> Tensor:
        return self._of(self.packing.unpack(codes))

    def surrogate(self, features: Tensor) -> Tensor:
        return self.project_out(self.project_in(features))

    def _nearest(self, low: Tensor) -> Tensor:
        """Index [batch, frames, channels] int64 of the value nearest to `low`; of NaN any."""
        edges = ((self.values[:, 1:] + self.values[:, :-1]) / 2).masked_fill(self.beyond, torch.inf)
        index = torch.searchsorted(edges, low.flatten(0, -2).mT.contiguous())
        index = torch.minimum(index.mT.contiguous(), self.packing.sizes - 1)
        return index.unflatten(0, low.shape[:-1])

    def _of(self, index: Tensor) -> Tensor:
        return self.values[torch.arange(len(self.config.levels), device=index.device), index]


class FixedLinear(nn.Linear):
    """A linear map without parameters, which training leaves as it is."""

    def __init__(self, weight: Tensor) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", torch.zeros(len(weight)))


def random_rows(channels: int, dim: int) -> Tensor:
    """Directions [channels, dim] float32 of unit length, always the same: orthogonal to each other; of more
    channels than `dim`, a tight frame, so that the transpose times dim / channels inverts them."""
    square = torch.randn(max(channels, dim), min(channels, dim), generator=generator(), dtype=torch.float64)
    turn, upper = torch.linalg.qr(square)
    turn = turn * upper.diagonal().sign()  # the decomposition that is unique, and so evenly distributed
    rows = turn.mT if channels <= dim else turn * math.sqrt(channels / dim)
    return rows.float()
