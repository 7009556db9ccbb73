"""Finite scalar perturbation: noise inside the cell in training, rounding in eval (arXiv 2602.17133)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.integers import whole
from quantizers.option_checks import check_choice, check_weight
from quantizers.parts.channels import ChannelQuantizer, LevelsConfig
from quantizers.parts.library import LibraryQuantizer

ACTIVATIONS = ("tanh", "sigmoid", "normal", "laplace", "cauchy")
UNIFORM_DEVIATION = 0.28867513459481287  # sqrt(1/12): outputs have unit variance


@dataclass(frozen=True, kw_only=True)
class FSPConfig(LevelsConfig):
    """Options of `fsp`.

    levels: number of cells of each channel.
    activation: distribution function that maps a channel to [0, 1].
    quantize_rate: fraction of values that are rounded in training; the others are perturbed.
    norm: preset of the loss that keeps the moments of the channels at those that the activation assumes;
        `none` turns it off.
    """

    activation: str = "tanh"
    quantize_rate: float = 0.0
    norm: str = "var_tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_levels(2)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm", self.norm, ("none", "var", "kurt", "var_tanh", "var_sigmoid", "var_laplace"))
        check_weight("quantize_rate", self.quantize_rate, maximum=1.0)


class FSP(ChannelQuantizer, LibraryQuantizer):
    """The FSP of vector-quantize-pytorch.

    Corrected here: int32 codes were computed in float32 (here int64 throughout); the loss stayed on in eval
    mode; gradients were NaN where all frames are equal. Codes in training are those of the unperturbed
    values.
    """

    config_class = FSPConfig
    family = "scalar"
    paper = "arXiv 2602.17133"
    config: FSPConfig

    def __init__(self, dim: int, config: FSPConfig) -> None:
        from vector_quantize_pytorch import FSP as LibraryFSP  # takes seconds to import

        super().__init__(dim, config)
        self.lay_out(len(config.levels), config.levels)
        self.inner = LibraryFSP(
            list(config.levels),
            act_name=config.activation,
            quantize_rate=config.quantize_rate,
            vector_norm=config.norm,
        )
        self.inner.vector_norm = Moments(self.inner.vector_norm)

    @classmethod
    def least_levels(cls, options: Mapping[str, Any]) -> int:
        return 2

    def call(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low = self.project_in(features)
        if self.training:
            quantized, _, loss, info = self.inner(low)
            return self.project_out(quantized), self._codes(info["level_indices"]), loss
        # The library's forward would also compute the moments, which one frame does not have.
        activated = self.inner.act_func(low)
        quantized, level = self.inner.quantize_act_value(activated, eps=torch.finfo(torch.float32).eps)
        smooth = self.project_out((quantized - 0.5) / UNIFORM_DEVIATION)
        return smooth, self._codes(level), features.new_zeros(())

    def channel_values(self, codes: Tensor) -> Tensor:
        middle = (self.packing.unpack(codes).float() + 0.5) / self.packing.sizes
        return (middle - 0.5) / UNIFORM_DEVIATION

    def surrogate(self, features: Tensor) -> Tensor:
        activated = self.inner.act_func(self.project_in(features))
        return self.project_out((activated - 0.5) / UNIFORM_DEVIATION)

    def _codes(self, levels: Tensor) -> Tensor:
        """Codes of `levels` [batch, frames, channels], which the library gives as floats."""
        return self.packing.pack(torch.minimum(whole(levels).clamp_min(0), self.packing.sizes - 1))


class Moments(nn.Module):
    """The library's loss on the moments of the channels, and its gradient, where all frames are equal too.

    There the library divides by a deviation of zero whose gradient is infinite, even at a weight of zero. Of
    one frame, which has no variance, only the mean counts.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.targets = tuple(getattr(norm, f"l{order}_target") for order in range(1, 5))
        self.weights = tuple(getattr(norm, f"l{order}_weight") for order in range(1, 5))
        self.floor = norm.eps

    def forward(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of `values` [frames, channels]; the library expects a dictionary, too."""
        if len(values) < 2:
            moments = [values.mean(0)]
        else:
            variance, mean = torch.var_mean(values, dim=0)
            scores = (values - mean) / variance.clamp_min(self.floor**2).sqrt()
            moments = [mean, variance, scores.pow(3).mean(0), scores.pow(4).mean(0) - 3.0]
        loss = values.new_zeros(())
        for moment, target, weight in zip(moments, self.targets, self.weights, strict=False):
            if weight:
                loss = loss + ((moment - target) ** 2).mean() * weight
        return loss, {}
