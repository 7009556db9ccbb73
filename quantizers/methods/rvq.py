"""Residual vector quantization: each stage quantizes what the stages before it left over.

Juang and Gray 1982; in neural codecs SoundStream (Zeghidour et al. 2021, arXiv 2107.03312), EnCodec, DAC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantizers.contract import Quantized, Quantizer
from quantizers.option_checks import check_count, check_open, check_weight
from quantizers.parts.codebook import EMACodebooks, EMAConfig, perplexity
from quantizers.parts.components import generator, set_components, set_linear
from quantizers.parts.stage_dropout import kept_stages
from quantizers.parts.straight_through import zero_loss
from quantizers.parts.vector_gradients import is_straight_through, with_gradient
from quantizers.rates import BITS_PER_STAGE, choose_codebooks


@dataclass(frozen=True, kw_only=True)
class RVQConfig(EMAConfig):
    """Options of `rvq`, besides those of its codebooks.

    stages: number of codebooks, each with its own token stream.
    dropout: fraction of the clips of a training batch that are decoded from a random number of first stages,
        so that any number of first stages can be decoded later (see `parts.stage_dropout`). All stages are
        still trained with all clips.
    """

    added = ("gradient", "dropout")

    stages: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("stages", self.stages)
        check_weight("dropout", self.dropout, maximum=1.0)


class RVQ(Quantizer):
    """Stages of vector quantization, each on the residual of those before.

    The output is the sum of the codes. The gradient is computed for the sum: with `diveq` and `sf-diveq`
    the error of the sum is used.
    """

    config_class = RVQConfig
    family = "vector"
    learned = True
    revives = True
    paper = "arXiv 2107.03312"
    config: RVQConfig

    def __init__(self, dim: int, config: RVQConfig) -> None:
        super().__init__(dim, config)
        self.codebook_sizes = (config.codebook_size,) * config.stages
        self.project_in = nn.Linear(dim, config.codebook_dim) if config.codebook_dim else nn.Identity()
        self.project_out = nn.Linear(config.codebook_dim, dim) if config.codebook_dim else nn.Identity()
        self.codebooks = nn.ModuleList(
            EMACodebooks(1, config.codebook_dim or dim, config) for _ in range(config.stages)
        )

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_open("codebook_size", options)
        stages, size = choose_codebooks(bits, BITS_PER_STAGE, fewest=2)
        if "stages" in options:
            stages = options["stages"]
            check_count("stages", stages)
            size = max(2, round(2 ** (bits / stages)))
        return {**options, "stages": stages, "codebook_size": size}

    @classmethod
    def depth_of(cls, config: RVQConfig) -> int:
        return config.stages

    def cut(self, stages: int) -> Quantizer:
        part = type(self)(self.dim, replace(self.config, stages=stages))
        part.project_in, part.project_out = self.project_in, self.project_out
        part.codebooks = self.codebooks[:stages]
        return part

    @property
    def codebook_vectors(self) -> Tensor:
        return self._stages[0].codes.detach()

    @property
    def _stages(self) -> list[EMACodebooks]:
        return cast(list[EMACodebooks], list(self.codebooks))

    def initialise(self, features: Tensor) -> None:
        """Principal components where there is a projection, then k-means stage by stage."""
        if isinstance(self.project_in, nn.Linear):
            set_linear(self.project_out, *set_components(self.project_in, features))
        residual, draw = self.project_in(features).unsqueeze(0), generator()
        for stage in self._stages:
            stage.start_from(residual, draw)
            residual = residual - stage.lookup(stage.nearest(residual))

    def quantize(self, features: Tensor) -> Quantized:
        vectors = self.project_in(features)
        residual = vectors.detach().flatten(0, 1).unsqueeze(0)
        total = torch.zeros_like(residual)
        kept = self._kept(len(features), features.device)
        output = total if kept is None else torch.zeros_like(vectors)
        loss, indices = zero_loss(features), []
        for number, stage in enumerate(self._stages):
            if self.training:
                stage.start(residual)
            index = stage.nearest(residual)
            chosen = stage.lookup(index)
            if self.training:
                stage.update(residual, index)
                if self.config.gradient == "sf-diveq":
                    chosen = torch.lerp(*stage.on_segments(residual))
            # The commitment of a stage pulls the input towards the sum of the codes so far.
            total, residual = total + chosen, residual - chosen.detach()
            if kept is not None:
                output = output + torch.where(kept[number], chosen.view_as(vectors), 0.0)
            indices.append(index)
            if self.training and vectors.numel() and not self.config.trained:
                loss = loss + F.mse_loss(vectors, total.view_as(vectors))
        loss = loss * (self.config.commitment / self.config.stages)
        output = total.view_as(vectors) if kept is None else output
        quantized = with_gradient(vectors, output, self.config, self.training)
        codes = torch.cat(indices).mT.unflatten(0, features.shape[:2]).contiguous()
        diagnostics = {"vectors": vectors.detach().unsqueeze(2)}
        if self.training:
            used = perplexity(torch.cat(indices), self.config.codebook_size)
            diagnostics = {"perplexity": used}
        return Quantized(self.project_out(quantized), codes, loss, diagnostics)

    def _kept(self, batch: int, device: torch.device) -> Tensor | None:
        return kept_stages(batch, self.config.stages, self.config.dropout, device) if self.training else None

    def lookup(self, codes: Tensor) -> Tensor:
        flat = codes.flatten(0, 1).mT  # [stages, tokens]
        total = torch.zeros((), device=codes.device)
        for stage, index in zip(self._stages, flat, strict=True):
            total = total + stage.lookup(index.unsqueeze(0))
        return self.project_out(total.view(*codes.shape[:2], self._stages[0].dim))

    def surrogate(self, features: Tensor) -> Tensor | None:
        if not is_straight_through(self.config):
            return None
        return self.project_out(self.project_in(features))
