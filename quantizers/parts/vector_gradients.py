"""Gradients of a vector quantizer: straight-through, the rotation trick or noise, as its options ask."""

from __future__ import annotations

from torch import Tensor

from quantizers.parts.codebook import EMAConfig
from quantizers.parts.noise_substitution import substituted
from quantizers.parts.rotation import rotate_to
from quantizers.parts.straight_through import straight_through


def with_gradient(vectors: Tensor, codes: Tensor, config: EMAConfig, training: bool) -> Tensor:
    """`codes` [..., dim] with the gradient that `config` asks for to `vectors` [..., dim]; with `noise`, in
    training, `vectors` with an error as long as theirs."""
    if training and config.gradient == "noise":
        return substituted(vectors, codes)
    return rotate_to(vectors, codes) if config.rotation_trick else straight_through(codes, vectors)


def is_straight_through(config: EMAConfig) -> bool:
    """Whether the backward pass is that of the identity."""
    return not config.rotation_trick and config.gradient == "unit"
