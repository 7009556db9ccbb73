"""Finite scalar perturbation: noise inside the cell in training, rounding in eval (arXiv 2602.17133)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from vector_quantize_pytorch import FSP as LibraryFSP

from .contract import Config, QuantizerError, check_choice, check_count, check_weight
from .library import LibraryQuantizer
from .packing import MixedRadix
from .rates import choose_levels

ACTIVATIONS = ("tanh", "sigmoid", "normal", "laplace", "cauchy")
UNIFORM_DEVIATION = 0.28867513459481287  # sqrt(1/12): outputs have unit variance


@dataclass(frozen=True, kw_only=True)
class FSPConfig(Config):
    """levels: cells of each channel. activation: the distribution function that maps a channel to [0, 1].

    quantize_rate: share of values rounded, not perturbed, in training. norm: preset of the loss that keeps
    the moments of the channels where the activation expects them (`none` turns it off).
    """

    levels: tuple[int, ...] = (9, 9, 9, 9, 9, 9)
    activation: str = "tanh"
    quantize_rate: float = 0.0
    norm: str = "var_tanh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        if not self.levels:
            raise QuantizerError("levels must name at least one channel")
        for level in self.levels:
            check_count("each of levels", level, minimum=2)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm", self.norm, ("none", "var", "kurt", "var_tanh", "var_sigmoid", "var_laplace"))
        check_weight("quantize_rate", self.quantize_rate, maximum=1.0)


class FSP(LibraryQuantizer):
    """vector-quantize-pytorch's FSP.

    Fixes: int32 codes computed in float32 (here int64 throughout); loss on in eval mode. Its codes in
    training are those of the unperturbed values.
    """

    config_class = FSPConfig
    family = "scalar"
    paper = "arXiv 2602.17133"
    fit_options = ("channels",)
    config: FSPConfig

    def __init__(self, dim: int, config: FSPConfig) -> None:
        super().__init__(dim, config)
        self.packing = MixedRadix(config.levels)
        self.codebook_sizes = self.packing.stream_sizes
        self.project_in = nn.Linear(dim, len(config.levels))
        self.project_out = nn.Linear(len(config.levels), dim)
        self.inner = LibraryFSP(
            list(config.levels),
            act_name=config.activation,
            quantize_rate=config.quantize_rate,
            vector_norm=config.norm,
        )

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in options.items() if name != "channels"}
        if "levels" in rest:
            raise QuantizerError("levels and bits both fix the rate; give one of them")
        return {**rest, "levels": choose_levels(bits, "scalar", channels=options.get("channels"))}

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        return self.config.levels

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

    def factors(self, codes: Tensor) -> Tensor:
        return self.packing.unpack(codes)

    def surrogate(self, features: Tensor) -> Tensor:
        activated = self.inner.act_func(self.project_in(features))
        return self.project_out((activated - 0.5) / UNIFORM_DEVIATION)
