"""Factorised, L2-normalised VQ and its residual form, as in DAC (Kumar et al. 2023, arXiv 2306.06546,
section 3.2), but for one path of the gradient (`Stage.remainder`).

The lookup happens in a few channels (factorised, after Improved VQGAN, Yu et al. 2021, arXiv 2110.04627)
and by cosine similarity; codebooks are learned by gradient descent. DAC revives no codes: the low
dimension keeps them in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantizers.contract import Config, Quantized, Quantizer
from quantizers.option_checks import QuantizerError, check_count, check_open, check_weight
from quantizers.parts.components import generator, set_components, set_linear
from quantizers.parts.kmeans import argmax, kmeans
from quantizers.parts.straight_through import straight_through, zero_loss
from quantizers.rates import BITS_PER_CODEBOOK, BITS_PER_STAGE, choose_codebooks

LIFT = 3.0  # deviations of the first component, of the constant channel at a start
KMEANS_ITERATIONS = 10  # of a start, as many as `vq` takes by default


@dataclass(frozen=True, kw_only=True)
class FactorizedConfig(Config):
    """Options of `vq-factorized` and `rvq-factorized`.

    codebook_size: codes per stage.
    stages: residual stages, each with its own token stream.
    codebook_dim: channels in which the nearest code is searched.
    commitment: weight of the loss that pulls the features to their codes; the default is DAC's.
    codebook_loss: weight of the loss that pulls the codes to the features; the default is DAC's.
    """

    codebook_size: int = 1024
    stages: int = 1
    codebook_dim: int = 8
    commitment: float = 0.25
    codebook_loss: float = 1.0

    def __post_init__(self) -> None:
        check_count("codebook_size", self.codebook_size, minimum=2)
        check_count("stages", self.stages)
        check_count("codebook_dim", self.codebook_dim)
        check_weight("commitment", self.commitment)
        check_weight("codebook_loss", self.codebook_loss)


class WeightNormLinear(nn.Linear):
    """A linear map whose rows are a direction and a length (Salimans and Kingma 2016, arXiv 1602.07868).

    torch's own parametrization cannot be pickled.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.length = nn.Parameter(self.weight.detach().norm(dim=1, keepdim=True))

    def normalise(self) -> None:
        """Take the lengths of the rows from `weight`, after it was set; a row of zeros gets a direction."""
        length = self.weight.norm(dim=1, keepdim=True)
        self.length.copy_(length)
        self.weight.copy_(torch.where(length > 0, self.weight, 1.0))

    def matrix(self) -> Tensor:
        """The matrix of the map [outputs, inputs]."""
        return self.length * F.normalize(self.weight, dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.matrix(), self.bias)


def by_cosine(codes: Tensor, vectors: Tensor) -> Tensor:
    """Indices [..., tokens] of the `codes` [..., size, dim] that have the greatest cosine with `vectors`
    [..., tokens, dim]."""
    return argmax(F.normalize(vectors, dim=-1) @ F.normalize(codes, dim=-1).mT)


class Stage(nn.Module):
    """One factorised codebook."""

    def __init__(self, dim: int, config: FactorizedConfig) -> None:
        super().__init__()
        self.project_in = WeightNormLinear(dim, config.codebook_dim)
        self.project_out = WeightNormLinear(config.codebook_dim, dim)
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_dim)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Output [batch, frames, dim], index [batch, frames], input and code [batch, frames,
        codebook_dim]."""
        low = self.project_in(residual)
        with torch.no_grad():
            index = by_cosine(self.codebook.weight, low)
        code = self.codebook(index)
        return self.project_out(straight_through(code, low)), index, low, code

    def remainder(self, residual: Tensor, output: Tensor) -> Tensor:
        """`residual` less the `output` of the stage, for the next stage.

        The gradient reaches `residual` as in DAC. Unlike in DAC, it does not reach the maps of this stage. A
        start from data makes the product of a stage's two maps a projection onto its components. Along these,
        by the straight-through estimator, a later stage would claim to undo every change of `output`. So the
        gradient of this stage would vanish there, and have the wrong sign once the later maps overshoot. On
        Gaussian values at 3 bits a value, 200 steps of Adam at a rate of 0.01 went from 14 dB to -22 dB;
        without that path they end at 14.4 dB.
        """
        if not residual.requires_grad:  # saves two products
            return residual - output.detach()
        smooth = F.linear(
            F.linear(residual, self.project_in.matrix().detach()), self.project_out.matrix().detach()
        )
        return residual - straight_through(output, smooth)

    def lookup(self, index: Tensor) -> Tensor:
        return self.project_out(self.codebook(index))

    def initialise(self, residual: Tensor, draw: torch.Generator) -> None:
        """Set the stage by `residual` [frames, dim]: principal components in, codes, and the same
        directions back.

        The last channel is a constant s, so that a lookup by cosine tells lengths apart. With y and c the
        other channels of a vector and a code, the cosine is (s^2 + y c) / (sqrt(s^2 + y^2) sqrt(s^2 + c^2)),
        and for s above both its greatest value over c is where y c - c^2 / 2 is greatest: the nearest code.
        At three deviations of the first component that is so nearly enough (10 of them gain 0.05 dB).
        Without, one codebook of 1024 codes is 2.6 dB worse on neighbours correlated at 0.98, and stages
        0.1 to 1 dB.
        """
        back, bias = set_components(self.project_in, residual)
        self.project_in.normalise()
        if len(self.project_in.bias) > 1:
            first = self.project_in(residual)[:, 0]
            self.project_in.length[-1] = 0.0
            self.project_in.bias[-1] = LIFT * first.std(correction=0)
            back[:, -1] = 0
        low = self.project_in(residual)
        codes = kmeans(low.unsqueeze(0), len(self.codebook.weight), KMEANS_ITERATIONS, draw, by_cosine)
        self.codebook.weight.copy_(codes.squeeze(0))
        set_linear(self.project_out, back, bias)
        self.project_out.normalise()


class FactorizedVQ(Quantizer):
    """One such codebook, or residual stages of them; the output is the sum of the stages'."""

    config_class = FactorizedConfig
    family = "vector"
    learned = True
    paper = "arXiv 2306.06546"
    revision = 2  # 1: the maps of a stage also learned through later stages
    config: FactorizedConfig

    def __init__(self, dim: int, config: FactorizedConfig) -> None:
        super().__init__(dim, config)
        self.codebook_sizes = (config.codebook_size,) * config.stages
        self.stages = nn.ModuleList(Stage(dim, config) for _ in range(config.stages))

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_open("codebook_size", options)
        stages = options.get("stages", choose_codebooks(bits, BITS_PER_STAGE, fewest=2)[0])
        check_count("stages", stages)
        if bits / stages > BITS_PER_CODEBOOK + 3:
            raise QuantizerError(
                f"{bits:g} bits in {stages} codebook(s) are too many, since one holds at most "
                f"{BITS_PER_CODEBOOK + 3} bits; use rvq-factorized, or fewer bits"
            )
        return {**options, "stages": stages, "codebook_size": max(2, round(2 ** (bits / stages)))}

    @classmethod
    def depth_of(cls, config: FactorizedConfig) -> int:
        return config.stages

    def cut(self, stages: int) -> FactorizedVQ:
        part = type(self)(self.dim, replace(self.config, stages=stages))
        part.stages = self.stages[:stages]
        return part

    def initialise(self, features: Tensor) -> None:
        """Principal components and k-means by cosine in them, stage by stage."""
        residual, draw = features, generator()
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.initialise(residual, draw)
            residual = residual - stage(residual)[0]

    def quantize(self, features: Tensor) -> Quantized:
        residual, total, loss = features, torch.zeros_like(features), zero_loss(features)
        codes = []
        for stage in self.stages:
            assert isinstance(stage, Stage)
            quantized, index, low, code = stage(residual)
            residual, total = stage.remainder(residual, quantized), total + quantized
            codes.append(index)
            if self.training and low.numel():
                commitment = self.config.commitment * F.mse_loss(low, code.detach())
                loss = loss + commitment + self.config.codebook_loss * F.mse_loss(code, low.detach())
        return Quantized(total, torch.stack(codes, -1), loss / len(self.stages), {})

    def lookup(self, codes: Tensor) -> Tensor:
        total = torch.zeros((*codes.shape[:2], self.dim), device=codes.device)
        for stage, index in zip(self.stages, codes.unbind(-1), strict=True):
            assert isinstance(stage, Stage)
            total = total + stage.lookup(index)
        return total

    def surrogate(self, features: Tensor) -> Tensor:
        residual, total = features, torch.zeros_like(features)
        for stage in self.stages:
            assert isinstance(stage, Stage)
            smooth = stage.project_out(stage.project_in(residual))
            residual, total = residual - smooth, total + smooth
        return total
