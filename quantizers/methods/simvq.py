"""SimVQ: a frozen random codebook seen through one learned linear map (Zhu et al. 2024, arXiv 2411.02038)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quantizers.contract import Config
from quantizers.option_checks import QuantizerError, check_count, check_open, check_weight
from quantizers.parts.components import generator
from quantizers.parts.kmeans import kmeans
from quantizers.parts.library import LibraryQuantizer
from quantizers.parts.rotation import rotate_to
from quantizers.parts.straight_through import straight_through
from quantizers.rates import BITS_PER_STAGE, choose_codebooks

KMEANS_ITERATIONS = 10  # of a start, as many as `vq` takes by default
MOST_BITS = 16  # a codebook of more codes does not fit a training step's distances


@dataclass(frozen=True, kw_only=True)
class SimVQConfig(Config):
    """Options of `simvq` and `residual-simvq`.

    codebook_size: codes per stage.
    stages: residual stages, each with its own token stream.
    commitment: weight of the loss that pulls the features to their codes, relative to the loss that pulls the
        codes.
    weight: weight of the sum of both losses.
    rotation_trick: true uses the library's default gradient (arXiv 2410.06424). The default here is a
        straight-through gradient, as for all other methods.
    """

    codebook_size: int = 4096
    stages: int = 1
    commitment: float = 0.25
    weight: float = 1.0
    rotation_trick: bool = False

    def __post_init__(self) -> None:
        check_count("codebook_size", self.codebook_size, minimum=2)
        check_count("stages", self.stages)
        check_weight("commitment", self.commitment)
        check_weight("weight", self.weight)


class SimVQ(LibraryQuantizer):
    """The SimVQ of vector-quantize-pytorch, in residual stages.

    Corrected here: the loss stayed on in eval mode; the rotation trick was on by default; decoding mapped the
    whole codebook to look up a few codes.
    """

    config_class = SimVQConfig
    family = "vector"
    learned = True
    paper = "arXiv 2411.02038"
    config: SimVQConfig

    def __init__(self, dim: int, config: SimVQConfig) -> None:
        from vector_quantize_pytorch import SimVQ as LibrarySimVQ  # takes seconds to import

        super().__init__(dim, config)
        self.codebook_sizes = (config.codebook_size,) * config.stages
        self.stages = torch.nn.ModuleList(
            LibrarySimVQ(
                dim,
                config.codebook_size,
                rotation_trick=config.rotation_trick,
                input_to_quantize_commit_loss_weight=config.commitment,
                commitment_weight=config.weight,
            )
            for _ in range(config.stages)
        )

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_open("codebook_size", options)
        if "stages" in options:
            stages = options["stages"]
            check_count("stages", stages)
        else:
            stages, _ = choose_codebooks(bits, BITS_PER_STAGE, fewest=2)
        if bits / stages > MOST_BITS:
            raise QuantizerError(
                f"{bits:g} bits in {stages} codebook(s) of vectors are too many, since one holds at most "
                f"{MOST_BITS} bits; use residual-simvq, or fewer bits"
            )
        return {**options, "stages": stages, "codebook_size": max(2, round(2 ** (bits / stages)))}

    @classmethod
    def depth_of(cls, config: SimVQConfig) -> int:
        return config.stages

    def cut(self, stages: int) -> SimVQ:
        part = type(self)(self.dim, replace(self.config, stages=stages))
        part.stages = self.stages[:stages]
        return part

    def initialise(self, features: Tensor) -> None:
        """k-means stage by stage.

        The paper draws the frozen codebook C from a normal law of variance 1 / dim, the same in all
        directions, and learns W. Here C W^T are the codes that k-means finds: W is the root of their second
        moment, times sqrt(dim), and C what is left of them, which is again the same in all directions. Codes
        in frozen positions of the data are those of VQGAN-LC (Zhu et al. 2024, arXiv 2406.11837), whose map
        is learned, too. Directions with under 1e-4 of the largest deviation keep that share of it in W, so
        that C stays finite.
        """
        residual, draw = features, generator()
        for stage in self._stages:
            codes = kmeans(residual.unsqueeze(0), self.config.codebook_size, KMEANS_ITERATIONS, draw)
            exact = codes.squeeze(0).cpu().double()
            power, axes = torch.linalg.eigh(exact.mT @ exact / len(exact))
            root = power.clamp_min(0).sqrt()
            root = root.clamp_min(max(1e-4 * float(root[-1]), 1e-12)) * self.dim**0.5
            stage.code_transform.weight.copy_(axes * root @ axes.mT)
            stage.frozen_codebook.copy_(exact @ (axes / root @ axes.mT))
            residual = residual - stage(residual.unsqueeze(0))[0].squeeze(0)

    @property
    def _stages(self) -> list[Any]:
        return list(self.stages)

    def call(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        residual, total, loss = features, torch.zeros_like(features), features.new_zeros(())
        codes = []
        for stage in self._stages:
            quantized, index, stage_loss = stage(residual)
            residual, total = residual - quantized.detach(), total + quantized.detach()
            loss = loss + stage_loss / len(self.stages)
            codes.append(index)
        quantized = (
            rotate_to(features, total) if self.config.rotation_trick else straight_through(total, features)
        )
        return quantized, torch.stack(codes, -1), loss

    def lookup(self, codes: Tensor) -> Tensor:
        total: Tensor | None = None
        for stage, index in zip(self._stages, codes.unbind(-1), strict=True):
            quantized = stage.code_transform(stage.frozen_codebook[index])
            total = quantized if total is None else total + quantized
        assert total is not None
        return total

    def surrogate(self, features: Tensor) -> Tensor | None:
        return None if self.config.rotation_trick else features
