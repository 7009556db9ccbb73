"""Latent quantization: every channel snapped to the nearest of a few learned values (Hsu et al. 2023,
arXiv 2305.18378).

Written here, not taken from vector-quantize-pytorch: there no gradient reaches the values, and decoding
assumes that they never moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contract import (
    Config,
    Quantized,
    Quantizer,
    QuantizerError,
    check_count,
    check_weight,
    straight_through,
    zero_loss,
)
from .packing import MixedRadix
from .rates import choose_levels


@dataclass(frozen=True, kw_only=True)
class LatentConfig(Config):
    """levels: number of values of each channel, evenly spread over [-1/2, 1/2] at first.

    quantization: weight of the loss that moves the values towards the inputs that chose them.
    commitment: weight of the loss that moves inputs towards their values.
    """

    levels: tuple[int, ...] = (9, 9, 9, 9, 9, 9)
    quantization: float = 0.1
    commitment: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        if not self.levels:
            raise QuantizerError("levels must name at least one channel")
        for level in self.levels:
            check_count("each of levels", level, minimum=2)
        check_weight("quantization", self.quantization)
        check_weight("commitment", self.commitment)


class Latent(Quantizer):
    """Linear to len(levels) channels, nearest learned value of each, linear back (equations 2 to 4 of the
    paper)."""

    config_class = LatentConfig
    family = "scalar"
    learned = True
    paper = "arXiv 2305.18378"
    fit_options = ("channels",)
    config: LatentConfig

    present: Tensor

    def __init__(self, dim: int, config: LatentConfig) -> None:
        super().__init__(dim, config)
        most = max(config.levels)
        values = torch.zeros(len(config.levels), most)
        for channel, level in enumerate(config.levels):
            values[channel, :level] = torch.linspace(-0.5, 0.5, level)
        self.values = nn.Parameter(values)
        present = torch.arange(most) < torch.tensor(config.levels).unsqueeze(-1)
        self.register_buffer("present", present, persistent=False)
        self.packing = MixedRadix(config.levels)
        self.codebook_sizes = self.packing.stream_sizes
        self.project_in = nn.Linear(dim, len(config.levels))
        self.project_out = nn.Linear(len(config.levels), dim)

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in options.items() if name != "channels"}
        if "levels" in rest:
            raise QuantizerError("levels and bits both fix the rate; give one of them")
        return {**rest, "levels": choose_levels(bits, "scalar", channels=options.get("channels"))}

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        return self.config.levels

    def quantize(self, features: Tensor) -> Quantized:
        low = self.project_in(features)
        with torch.no_grad():
            distance = (low.unsqueeze(-1) - self.values).abs()
            index = distance.masked_fill(~self.present, torch.inf).argmin(-1)
        value = self._values(index)
        loss = zero_loss(features)
        if self.training and low.numel():
            loss = self.config.quantization * F.mse_loss(value, low.detach())
            loss = loss + self.config.commitment * F.mse_loss(low, value.detach())
        return Quantized(self.project_out(straight_through(value, low)), self.packing.pack(index), loss, {})

    def lookup(self, codes: Tensor) -> Tensor:
        return self.project_out(self._values(self.packing.unpack(codes)))

    def factors(self, codes: Tensor) -> Tensor:
        return self.packing.unpack(codes)

    def surrogate(self, features: Tensor) -> Tensor:
        return self.project_out(self.project_in(features))

    def _values(self, index: Tensor) -> Tensor:
        return self.values[torch.arange(len(self.config.levels), device=index.device), index]
