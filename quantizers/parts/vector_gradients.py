"""Gradients of a vector quantizer: straight-through, the rotation trick, noise or DiVeQ, as its options ask.

DiVeQ (Vali, Backstrom and Solin 2025, arXiv 2509.26469) writes the nearest code c of z as z and an error:

    q = z + |c - z| sg(u),    u = (c - z + v) / |c - z + v|,    v from N(0, s^2 I)

with sg held constant in the backward pass. With e the direction of c - z and u near e, the gradient is

    dq/dz = I - u e^T,    dq/dc = u e^T:

the part along the error moves the code, the part across it the encoder. So codes are learned by the loss of
the reconstruction alone, and there is no commitment loss. s is 0.001, as in the package that the authors
released; it is in the units of the features.

SF-DiVeQ is the space-filling one: in training z goes to a point on the segments between each code and the
next, one random point for each segment, and both ends of the segment are learned:

    q = z + |c - z| sg((1 - l) u) + |d - z| sg(l w),    for the point (1 - l) c + l d.

In eval mode codes alone are used, as in DiVeQ. The released package returns the nearest point of a segment
there, whose place l is a real number that no code tells: at its stated rate that cannot be decoded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from quantizers.parts.codebook import EMAConfig
from quantizers.parts.noise_substitution import substituted
from quantizers.parts.rotation import rotate_to
from quantizers.parts.straight_through import straight_through

DEVIATION = 1e-3  # of DiVeQ's noise, in the units of the features


def with_gradient(vectors: Tensor, codes: Tensor, config: EMAConfig, training: bool) -> Tensor:
    """`codes` [..., dim] with the gradient that `config` asks for to `vectors` [..., dim]; with `noise`, in
    training, `vectors` with an error as long as theirs, and with `diveq` one that is nearly theirs."""
    if training and config.gradient == "noise":
        return substituted(vectors, codes)
    if training and config.trained:
        return vectors + directed(vectors, codes)
    return rotate_to(vectors, codes) if config.rotation_trick else straight_through(codes, vectors)


def directed(vectors: Tensor, codes: Tensor) -> Tensor:
    """The error from `vectors` to `codes`, [..., dim]: its length with its gradient, its direction constant
    and a little noisy (DiVeQ)."""
    error = codes - vectors
    direction = F.normalize(error.detach() + DEVIATION * torch.randn_like(error), dim=-1)
    # Where the error is 0, the gradient of its length is 0.
    return error.square().sum(-1, keepdim=True).clamp_min(torch.finfo(error.dtype).tiny).sqrt() * direction


def between(vectors: Tensor, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """The points (1 - share) `first` + share `second` with SF-DiVeQ's gradient to `vectors` and both ends.

    All [..., dim], `share` [..., 1].
    """
    return vectors + (1 - share) * directed(vectors, first) + share * directed(vectors, second)


def is_straight_through(config: EMAConfig) -> bool:
    """Whether the backward pass is that of the identity."""
    return not config.rotation_trick and config.gradient == "unit"
