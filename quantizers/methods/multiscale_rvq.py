"""Multi-scale residual vector quantization: residual stages that work at coarser time scales.

Siuzdak, Grotschla and Lanzendorfer 2024, "SNAC: Multi-Scale Neural Audio Codec" (arXiv 2410.14411, section
3.1): stage i takes the mean of the residual over s_i frames, quantizes it, and repeats the code s_i times:

    r_0 = z,    q_i = repeat(nearest(pool(r_{i-1}, s_i)), s_i),    r_i = r_{i-1} - q_i,    z ~ sum_i q_i

Stage i spends log2(K) bits per s_i frames, so a frame costs sum_i log2(K) / s_i bits.

Codes stay one tensor [batch, frames, stages], in which a code of stage i fills all s_i frames of its block.
Of a block only the code of its first frame is a token: `decode` reads that one and no other, and all that
counts tokens takes every s_i-th frame (`Quantizer.stream_strides`). One tensor has two advantages over a list
of tensors of different lengths. Every part that handles frames (batches, prefixes, loss of frames, masks)
works as with other quantizers. And a token that is lost or changed is one entry, the first of its block, as
in a packet.

The gradient is that of the sum, straight through to each frame, where SNAC passes it through the pooling of
each stage; with a last stride of 1 the two are equal. SNAC finds codes by cosine in 8 channels with a
codebook loss; here stages are those of `rvq`: Euclidean, moving averages, k-means, revival.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantizers.contract import Quantized, Quantizer
from quantizers.option_checks import check_open, check_weight
from quantizers.parts.codebook import EMACodebooks, EMAConfig, perplexity
from quantizers.parts.components import generator, set_components, set_linear
from quantizers.parts.stage_dropout import kept_stages
from quantizers.parts.straight_through import zero_loss
from quantizers.parts.strides import check_strides, pool, repeat
from quantizers.parts.vector_gradients import is_straight_through, with_gradient
from quantizers.rates import BITS_PER_CODEBOOK, check_bits

SCALES = (4, 2, 1)  # of SNAC at 24 kHz: tokens at 12, 23 and 47 Hz


@dataclass(frozen=True, kw_only=True)
class MultiscaleRVQConfig(EMAConfig):
    """strides: frames per token of each stage, in the order of the stages.

    dropout: as in `rvq`.
    """

    strides: tuple[int, ...] = SCALES
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "strides", tuple(self.strides))
        check_strides(self.strides)
        check_weight("dropout", self.dropout, maximum=1.0)


class MultiscaleRVQ(Quantizer):
    """Residual stages on means over `strides` frames; with strides of 1 alone it is `rvq`, bit for bit."""

    config_class = MultiscaleRVQConfig
    family = "vector"
    learned = True
    revives = True
    paper = "arXiv 2410.14411"
    config: MultiscaleRVQConfig

    def __init__(self, dim: int, config: MultiscaleRVQConfig) -> None:
        super().__init__(dim, config)
        self.strides = config.strides
        self.codebook_sizes = (config.codebook_size,) * len(config.strides)
        self.project_in = nn.Linear(dim, config.codebook_dim) if config.codebook_dim else nn.Identity()
        self.project_out = nn.Linear(config.codebook_dim, dim) if config.codebook_dim else nn.Identity()
        self.codebooks = nn.ModuleList(
            EMACodebooks(1, config.codebook_dim or dim, config) for _ in config.strides
        )

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        """Codes of each stage for `bits`; without strides, as many stages at each of the scales 4, 2 and 1 as
        codebooks of at most 2^13 codes need."""
        check_open("codebook_size", options)
        check_bits(bits)
        strides = options.get("strides")
        if strides is None:
            stages = math.ceil(bits / (BITS_PER_CODEBOOK * _rate(SCALES)) - 1e-9)
            strides = tuple(scale for scale in SCALES for _ in range(stages))
        check_strides(strides)
        size = max(2, round(2 ** (bits / _rate(strides))))
        return {**options, "strides": tuple(strides), "codebook_size": size}

    @classmethod
    def depth_of(cls, config: MultiscaleRVQConfig) -> int:
        return len(config.strides)

    def cut(self, stages: int) -> Quantizer:
        part = type(self)(self.dim, replace(self.config, strides=self.strides[:stages]))
        part.project_in, part.project_out = self.project_in, self.project_out
        part.codebooks = self.codebooks[:stages]
        return part

    @property
    def codebook_vectors(self) -> Tensor:
        return self._stages[0][1].codes.detach()

    @property
    def _stages(self) -> list[tuple[int, EMACodebooks]]:
        """Stride and codebook of each stage."""
        stages = []
        for stride, codebook in zip(self.strides, self.codebooks, strict=True):
            assert isinstance(codebook, EMACodebooks)
            stages.append((stride, codebook))
        return stages

    def initialise(self, features: Tensor) -> None:
        """Principal components where there is a projection, then k-means stage by stage on pooled residuals.

        `features` [frames, dim] are in order of time. Blocks are those of one clip of all of them; where
        several crops follow each other, a block at a seam has frames of both.
        """
        if isinstance(self.project_in, nn.Linear):
            set_linear(self.project_out, *set_components(self.project_in, features))
        residual, draw = self.project_in(features).unsqueeze(0), generator()
        for stride, stage in self._stages:
            pooled = pool(residual, stride)
            stage.start_from(pooled, draw)
            chosen = stage.lookup(stage.nearest(pooled))
            residual = residual - repeat(chosen, stride, len(features))

    def quantize(self, features: Tensor) -> Quantized:
        batch, frames = features.shape[:2]
        vectors = self.project_in(features)
        residual = vectors.detach()
        total = torch.zeros_like(residual)
        kept = self._kept(batch, features.device)
        output = total if kept is None else torch.zeros_like(vectors)
        loss, codes, used, first = zero_loss(features), [], [], vectors
        for number, (stride, stage) in enumerate(self._stages):
            pooled = pool(residual, stride)
            flat = pooled.flatten(0, 1).unsqueeze(0)
            if self.training:
                stage.start(flat)
            index = stage.nearest(flat)
            chosen = stage.lookup(index)
            if self.training:
                stage.update(flat, index)
                used.append(perplexity(index, self.config.codebook_size))
                if self.config.gradient == "sf-diveq":
                    chosen = torch.lerp(*stage.on_segments(flat))
            chosen = repeat(chosen.view_as(pooled), stride, frames)
            total, residual = total + chosen, residual - chosen.detach()
            if kept is not None:
                output = output + torch.where(kept[number], chosen, 0.0)
            codes.append(repeat(index.view(pooled.shape[:2]), stride, frames))
            first = pooled if not number else first
            if self.training and vectors.numel() and not self.config.trained:
                # A stage sees means alone, so it commits the means of the input.
                loss = loss + F.mse_loss(pool(vectors, stride), pool(total, stride))
        loss = loss * (self.config.commitment / len(self.strides))
        output = total if kept is None else output
        quantized = with_gradient(vectors, output, self.config, self.training)
        diagnostics = {"vectors": first.detach().unsqueeze(2)}
        if self.training:
            diagnostics = {"perplexity": torch.stack(used).mean()}
        return Quantized(self.project_out(quantized), torch.stack(codes, -1), loss, diagnostics)

    def _kept(self, batch: int, device: torch.device) -> Tensor | None:
        stages = len(self.strides)
        return kept_stages(batch, stages, self.config.dropout, device) if self.training else None

    def lookup(self, codes: Tensor) -> Tensor:
        frames = codes.shape[1]
        total = torch.zeros((), device=codes.device)
        for stream, (stride, stage) in enumerate(self._stages):
            tokens = codes[:, ::stride, stream]
            chosen = stage.lookup(tokens.reshape(1, -1)).view(*tokens.shape, stage.dim)
            total = total + repeat(chosen, stride, frames)
        return self.project_out(total)

    def surrogate(self, features: Tensor) -> Tensor | None:
        if not is_straight_through(self.config):
            return None
        return self.project_out(self.project_in(features))


def _rate(strides: tuple[int, ...]) -> float:
    """Tokens per frame."""
    return math.fsum(1 / stride for stride in strides)
