"""Vector quantization with one codebook, or with one for each part of the vector (product VQ).

van den Oord et al. 2017 (arXiv 1711.00937). One codebook of more than 2^13 codes is hardly trainable, so
high rates split the vector into heads, each with a codebook of its own (Jegou et al. 2011, product
quantization).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .codebook import EMACodebooks, perplexity
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
from .rates import BITS_PER_CODEBOOK, choose_codebooks
from .rotation import rotate_to


@dataclass(frozen=True, kw_only=True)
class VQConfig(Config):
    """codebook_size: codes of each head.

    heads: parts of the vector, each with its own codebook and token stream.
    codebook_dim: dimension of each head; None splits the features without a projection where heads divide
    them.
    commitment: weight of the commitment loss (beta of the paper). decay: of the moving averages.
    revive_below: replace codes used less than this fraction of an even share; 0 never does.
    rotation_trick: gradient of Fifty et al. (arXiv 2410.06424) in place of straight-through.
    """

    codebook_size: int = 1024
    heads: int = 1
    codebook_dim: int | None = None
    commitment: float = 0.25
    decay: float = 0.99
    revive_below: float = 0.1
    kmeans_iterations: int = 10
    rotation_trick: bool = False

    def __post_init__(self) -> None:
        check_count("codebook_size", self.codebook_size, minimum=2)
        check_count("heads", self.heads)
        if self.codebook_dim is not None:
            check_count("codebook_dim", self.codebook_dim)
        check_weight("commitment", self.commitment)
        check_weight("decay", self.decay, maximum=1.0)
        check_weight("revive_below", self.revive_below, maximum=1.0)
        check_count("kmeans_iterations", self.kmeans_iterations, minimum=0)


class VQ(Quantizer):
    """Nearest code of each head by Euclidean distance."""

    config_class = VQConfig
    family = "vector"
    learned = True
    revives = True
    paper = "arXiv 1711.00937"
    config: VQConfig

    def __init__(self, dim: int, config: VQConfig) -> None:
        super().__init__(dim, config)
        self.codebook_sizes = (config.codebook_size,) * config.heads
        projected = config.codebook_dim is not None or dim % config.heads
        head_dim = config.codebook_dim or -(-dim // config.heads)
        self.project_in = nn.Linear(dim, config.heads * head_dim) if projected else nn.Identity()
        self.project_out = nn.Linear(config.heads * head_dim, dim) if projected else nn.Identity()
        self.codebooks = EMACodebooks(
            config.heads,
            config.codebook_size,
            head_dim,
            decay=config.decay,
            revive_below=config.revive_below,
            kmeans_iterations=config.kmeans_iterations,
        )

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        if "codebook_size" in options:
            raise QuantizerError("codebook_size and bits both fix the rate; give one of them")
        heads, size = choose_codebooks(bits, BITS_PER_CODEBOOK)
        if "heads" in options:
            heads = options["heads"]
            check_count("heads", heads)
            size = max(2, round(2 ** (bits / heads)))
        return {**options, "heads": heads, "codebook_size": size}

    def quantize(self, features: Tensor) -> Quantized:
        low = self.project_in(features)
        vectors = self._split(low)  # [heads, tokens, head_dim]
        if self.training:
            self.codebooks.start(vectors.detach())
        indices = self.codebooks.nearest(vectors)
        chosen = self.codebooks.lookup(indices)
        loss = zero_loss(features)
        if self.training:
            if vectors.numel():
                loss = self.config.commitment * F.mse_loss(vectors, chosen)
            self.codebooks.update(vectors.detach(), indices)
        quantized = (
            rotate_to(vectors, chosen) if self.config.rotation_trick else straight_through(chosen, vectors)
        )
        codes = indices.mT.unflatten(0, features.shape[:2]).contiguous()
        diagnostics = {"perplexity": perplexity(indices, self.config.codebook_size)} if self.training else {}
        return Quantized(self.project_out(self._join(quantized, low.shape)), codes, loss, diagnostics)

    def encode(self, features: Tensor) -> Tensor:
        self._check_features(features)
        indices = self.codebooks.nearest(self._split(self.project_in(features.float())))
        return indices.mT.unflatten(0, features.shape[:2]).contiguous()

    def lookup(self, codes: Tensor) -> Tensor:
        chosen = self.codebooks.lookup(codes.flatten(0, 1).mT)
        return self.project_out(
            self._join(chosen, (*codes.shape[:2], self.config.heads * self.codebooks.dim))
        )

    def surrogate(self, features: Tensor) -> Tensor | None:
        return None if self.config.rotation_trick else self.project_out(self.project_in(features))

    def _split(self, low: Tensor) -> Tensor:
        return low.flatten(0, 1).unflatten(-1, (self.config.heads, -1)).transpose(0, 1)

    def _join(self, heads: Tensor, shape: tuple[int, ...]) -> Tensor:
        return heads.transpose(0, 1).reshape(shape)
