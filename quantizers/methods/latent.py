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

from quantizers.contract import Quantized
from quantizers.option_checks import QuantizerError, check_weight
from quantizers.parts.channels import ChannelQuantizer, LevelsConfig
from quantizers.parts.optimal_levels import lloyd_max
from quantizers.parts.straight_through import straight_through, zero_loss

MOST_LEVELS = 4096  # of a channel


@dataclass(frozen=True, kw_only=True)
class LatentConfig(LevelsConfig):
    """Options of `latent`.

    levels: number of values of each channel; at first they are evenly spaced in [-1/2, 1/2].
    quantization: weight of the loss that moves values to the inputs that were assigned to them.
    commitment: weight of the loss that moves inputs to their values.
    """

    quantization: float = 0.1
    commitment: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_levels(2)
        if max(self.levels) > MOST_LEVELS:
            raise QuantizerError(
                f"each of levels must be at most {MOST_LEVELS:,}, since all values of a channel "
                f"are compared, not {max(self.levels):,}"
            )
        check_weight("quantization", self.quantization)
        check_weight("commitment", self.commitment)


class Latent(ChannelQuantizer):
    """A linear map to len(levels) channels, the nearest learned value of each, a linear map back.

    Equations 2 to 4 of the paper.
    """

    config_class = LatentConfig
    family = "scalar"
    learned = True
    paper = "arXiv 2305.18378"
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
        self.lay_out(len(config.levels), config.levels)

    @classmethod
    def least_levels(cls, options: Mapping[str, Any]) -> int:
        return 2

    def quantize(self, features: Tensor) -> Quantized:
        low = self.project_in(features)
        with torch.no_grad():
            distance = (low.unsqueeze(-1) - self.values).abs()
            index = distance.masked_fill(~self.present, torch.inf).argmin(-1)
        value = self._of(index)
        loss = zero_loss(features)
        if self.training and low.numel():
            loss = self.config.quantization * F.mse_loss(value, low.detach())
            loss = loss + self.config.commitment * F.mse_loss(low, value.detach())
        return Quantized(self.project_out(straight_through(value, low)), self.packing.pack(index), loss, {})

    def refine(self, features: Tensor) -> None:
        """The values of each channel that leave it the least error (Lloyd 1982, Max 1960), which training
        would move there; evenly spread at first. A channel that does not vary keeps them spread.
        """
        low = self.project_in(features).mT.double().contiguous()
        for channel, level in enumerate(self.config.levels):
            if low[channel].std(correction=0) > 1e-9:
                even = self.values[channel, :level].double()
                self.values[channel, :level] = lloyd_max(low[channel], even).to(self.values)

    def channel_values(self, codes: Tensor) -> Tensor:
        return self._of(self.packing.unpack(codes))

    def surrogate(self, features: Tensor) -> Tensor:
        return self.project_out(self.project_in(features))

    def _of(self, index: Tensor) -> Tensor:
        return self.values[torch.arange(len(self.config.levels), device=index.device), index]
