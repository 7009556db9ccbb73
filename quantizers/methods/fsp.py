"""Finite scalar perturbation: noise inside the cell in training, rounding in eval (arXiv 2602.17133)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quantizers.option_checks import check_choice, check_weight
from quantizers.parts.channels import ChannelQuantizer, LevelsConfig
from quantizers.parts.library import LibraryQuantizer

ACTIVATIONS = ("tanh", "sigmoid", "normal", "laplace", "cauchy")
UNIFORM_DEVIATION = 0.28867513459481287  # sqrt(1/12): outputs have unit variance


@dataclass(frozen=True, kw_only=True)
class FSPConfig(LevelsConfig):
    """levels: cells of each channel. activation: the distribution function that maps a channel to [0, 1].

    quantize_rate: share of values rounded, not perturbed, in training. norm: preset of the loss that keeps
    the moments of the channels where the activation expects them (`none` turns it off).
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
    """vector-quantize-pytorch's FSP.

    Fixes: int32 codes computed in float32 (here int64 throughout); loss on in eval mode. Its codes in
    training are those of the unperturbed values.
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

    def call(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low = self.project_in(features)
        if self.training:
            quantized, _, loss, info = self.inner(low)
            return self.project_out(quantized), self.packing.pack(info["level_indices"].long()), loss
        # The library's forward would also compute the moments, which one frame does not have.
        activated = self.inner.act_func(low)
        quantized, level = self.inner.quantize_act_value(activated, eps=torch.finfo(torch.float32).eps)
        smooth = self.project_out((quantized - 0.5) / UNIFORM_DEVIATION)
        return smooth, self.packing.pack(level.long()), features.new_zeros(())

    def lookup(self, codes: Tensor) -> Tensor:
        middle = (self.packing.unpack(codes).float() + 0.5) / self.packing.sizes
        return self.project_out((middle - 0.5) / UNIFORM_DEVIATION)

    def surrogate(self, features: Tensor) -> Tensor:
        activated = self.inner.act_func(self.project_in(features))
        return self.project_out((activated - 0.5) / UNIFORM_DEVIATION)
