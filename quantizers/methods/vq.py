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

from quantizers.contract import Quantized, Quantizer
from quantizers.option_checks import check_count, check_open
from quantizers.parts.codebook import EMACodebooks, EMAConfig, perplexity
from quantizers.parts.components import generator, set_components, set_linear
from quantizers.parts.straight_through import zero_loss
from quantizers.parts.vector_gradients import between, is_straight_through, with_gradient
from quantizers.rates import BITS_PER_CODEBOOK, choose_codebooks


@dataclass(frozen=True, kw_only=True)
class VQConfig(EMAConfig):
    """Options of `vq`, besides those of its codebooks.

    heads: parts into which the feature vector is split, each with its own codebook and token stream.
    codebook_dim: dimension of the codes of each head. None splits the features evenly, without a projection
        if `heads` divides their dimension.
    """

    heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("heads", self.heads)


class VQ(Quantizer):
    """The nearest code of each head, by Euclidean distance."""

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
        self.codebooks = EMACodebooks(config.heads, head_dim, config)

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_open("codebook_size", options)
        heads, size = choose_codebooks(bits, BITS_PER_CODEBOOK)
        if "heads" in options:
            heads = options["heads"]
            check_count("heads", heads)
            size = max(2, round(2 ** (bits / heads)))
        return {**options, "heads": heads, "codebook_size": size}

    def initialise(self, features: Tensor) -> None:
        """Principal components where there is a projection, then k-means in each head."""
        if isinstance(self.project_in, nn.Linear):
            back = set_components(self.project_in, features, groups=self.config.heads)
            set_linear(self.project_out, *back)
        vectors = self._split(self.project_in(features.unsqueeze(0)))
        self.codebooks.start_from(vectors, generator())

    def quantize(self, features: Tensor) -> Quantized:
        low = self.project_in(features)
        vectors = self._split(low)  # [heads, tokens, head_dim]
        if self.training:
            self.codebooks.start(vectors.detach())
        indices = self.codebooks.nearest(vectors)
        chosen = self.codebooks.lookup(indices)
        loss = zero_loss(features)
        if self.training:
            if vectors.numel() and not self.config.trained:
                loss = self.config.commitment * F.mse_loss(vectors, chosen)
            self.codebooks.update(vectors.detach(), indices)
        if self.training and self.config.gradient == "sf-diveq":
            quantized = between(vectors, *self.codebooks.on_segments(vectors))
        else:
            quantized = with_gradient(vectors, chosen, self.config, self.training)
        codes = indices.mT.unflatten(0, features.shape[:2]).contiguous()
        diagnostics = {"vectors": vectors.detach().transpose(0, 1).unflatten(0, features.shape[:2])}
        if self.training:
            diagnostics = {"perplexity": perplexity(indices, self.config.codebook_size)}
        return Quantized(self.project_out(self._join(quantized, low.shape)), codes, loss, diagnostics)

    @property
    def codebook_vectors(self) -> Tensor:
        return self.codebooks.codes.detach()

    def encode(self, features: Tensor) -> Tensor:
        self._check_features(features)
        self._check_finite(features, "cannot quantize")
        indices = self.codebooks.nearest(self._split(self.project_in(features.float())))
        return indices.mT.unflatten(0, features.shape[:2]).contiguous()

    def lookup(self, codes: Tensor) -> Tensor:
        chosen = self.codebooks.lookup(codes.flatten(0, 1).mT)
        return self.project_out(
            self._join(chosen, (*codes.shape[:2], self.config.heads * self.codebooks.dim))
        )

    def surrogate(self, features: Tensor) -> Tensor | None:
        if not is_straight_through(self.config):
            return None
        return self.project_out(self.project_in(features))

    def _split(self, low: Tensor) -> Tensor:
        return low.flatten(0, 1).unflatten(-1, (self.config.heads, -1)).transpose(0, 1)

    def _join(self, heads: Tensor, shape: tuple[int, ...]) -> Tensor:
        return heads.transpose(0, 1).reshape(shape)
