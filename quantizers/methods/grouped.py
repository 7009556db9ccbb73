"""Grouped residual VQ: the channels in groups, each with its own residual VQ (HiFi-Codec, arXiv
2305.02765)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from quantizers.contract import Config
from quantizers.option_checks import QuantizerError, check_count, check_open, check_weight
from quantizers.parts.components import generator
from quantizers.parts.kmeans import kmeans, nearest
from quantizers.parts.library import LibraryQuantizer
from quantizers.parts.rotation import rotate_to
from quantizers.parts.straight_through import straight_through
from quantizers.rates import BITS_PER_STAGE, choose_codebooks


@dataclass(frozen=True, kw_only=True)
class GroupedRVQConfig(Config):
    """Options of `grouped-rvq`.

    codebook_size: codes per stage.
    groups: groups of channels, each with its own stages. There are groups * stages token streams.
    stages: residual stages of each group.
    commitment: weight of the commitment loss.
    decay: decay of the moving averages of codes and counts per step.
    dead_below: codes whose moving average of uses per batch falls below this number are replaced.
    kmeans_iterations: iterations of the k-means that initialises the codebooks.
    rotation_trick: true uses the gradient of Fifty et al. (arXiv 2410.06424) instead of straight-through.
    dropout: true quantizes each training batch with a random number of stages (arXiv 2107.03312, section
        III-C).
    """

    codebook_size: int = 256
    groups: int = 2
    stages: int = 2
    commitment: float = 0.25
    decay: float = 0.99
    dead_below: float = 0.1
    kmeans_iterations: int = 10
    rotation_trick: bool = False
    dropout: bool = False

    def __post_init__(self) -> None:
        check_count("codebook_size", self.codebook_size, minimum=2)
        check_count("groups", self.groups)
        check_count("stages", self.stages)
        check_weight("commitment", self.commitment)
        check_weight("decay", self.decay, maximum=1.0)
        check_weight("dead_below", self.dead_below)
        check_count("kmeans_iterations", self.kmeans_iterations)


class GroupedRVQ(LibraryQuantizer):
    """The GroupedResidualVQ of vector-quantize-pytorch.

    Its streams are group 0 stage 0, group 0 stage 1, and so on.
    Corrected here: dropout returned codes of -1 (codes are always those of all stages); the rotation trick
    was on by default; the gradient was counted once per stage; k-means ran at the first forward pass, also in
    eval mode, where one rank alone would wait for the others.
    """

    config_class = GroupedRVQConfig
    family = "vector"
    learned = True
    revives = True
    exports = False  # the library branches on tensor values
    paper = "arXiv 2305.02765"
    config: GroupedRVQConfig

    def __init__(self, dim: int, config: GroupedRVQConfig) -> None:
        from vector_quantize_pytorch import (
            GroupedResidualVQ as LibraryGroupedResidualVQ,
        )  # takes seconds to import

        super().__init__(dim, config)
        if dim % config.groups:
            raise QuantizerError(f"{config.groups} groups do not divide the {dim} channels; choose a divisor")
        self.codebook_sizes = (config.codebook_size,) * (config.groups * config.stages)
        self.inner = LibraryGroupedResidualVQ(
            dim=dim,
            groups=config.groups,
            num_quantizers=config.stages,
            codebook_size=config.codebook_size,
            commitment_weight=config.commitment,
            decay=config.decay,
            threshold_ema_dead_code=config.dead_below,
            kmeans_init=True,
            kmeans_iters=config.kmeans_iterations,
            rotation_trick=config.rotation_trick,
            quantize_dropout=config.dropout,
        )

        for layer in self._layers:
            layer._codebook.init_embed_ = partial(_start_in_training, layer._codebook)

    @property
    def _layers(self) -> list[Any]:
        """The library's layers, group by group, stage by stage."""
        return [layer for group in self.inner.rvqs for layer in group.layers]

    def initialise(self, features: Tensor) -> None:
        """k-means in each group, stage by stage.

        As in `vq`, the averages count as those of batches with one token a code.
        """
        draw = generator()
        for group, residual in zip(self.inner.rvqs, features.chunk(self.config.groups, dim=-1), strict=True):
            for layer in group.layers:
                books = layer._codebook
                codes = kmeans(
                    residual.unsqueeze(0), self.config.codebook_size, self.config.kmeans_iterations, draw
                )
                books.embed.copy_(codes)
                books.embed_avg.copy_(codes)
                books.cluster_size.fill_(1.0)
                books.initted.fill_(True)
                residual = residual - codes[0, nearest(codes, residual.unsqueeze(0))[0]]

    @classmethod
    def depth_of(cls, config: GroupedRVQConfig) -> int:
        """Stages of each group."""
        return config.stages

    def cut(self, stages: int) -> GroupedRVQ:
        part = type(self)(self.dim, replace(self.config, stages=stages))
        for own, whole in zip(part.inner.rvqs, self.inner.rvqs, strict=True):
            own.layers = whole.layers[:stages]
        return part

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_open("codebook_size", options)
        groups = options.get("groups", 2 if bits >= 4 else 1)
        check_count("groups", groups)
        stages = options.get("stages", choose_codebooks(bits / groups, BITS_PER_STAGE, fewest=2)[0])
        check_count("stages", stages)
        size = max(2, round(2 ** (bits / (groups * stages))))
        return {**options, "groups": groups, "stages": stages, "codebook_size": size}

    def call(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value, codes, losses = self.inner(features)  # codes [groups, batch, frames, stages]
        if self.config.rotation_trick:
            grouped = rotate_to(*(x.unflatten(-1, (self.config.groups, -1)) for x in (features, value)))
            quantized = grouped.flatten(-2)
        else:
            quantized = straight_through(value, features)
        if self.training and self.config.dropout:
            return quantized, self.encode(features), losses.mean()
        return quantized, codes.movedim(0, 2).flatten(2), losses.mean()

    def lookup(self, codes: Tensor) -> Tensor:
        grouped = codes.unflatten(-1, (self.config.groups, self.config.stages)).movedim(2, 0)
        return self.inner.get_output_from_indices(grouped)

    def surrogate(self, features: Tensor) -> Tensor | None:
        return None if self.config.rotation_trick else features


def _start_in_training(codebook: Any, vectors: Tensor, mask: Tensor | None = None) -> None:
    """The library's k-means at the first batch, only if that is one of the training.

    A module-level function, so that the quantizer can be pickled.
    """
    if codebook.training:
        type(codebook).init_embed_(codebook, vectors, mask)
