"""Noise substitution in vector quantization, NSVQ (Vali and Backstrom 2022, IEEE Access 10)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def substituted(vectors: Tensor, codes: Tensor) -> Tensor:
    """`vectors` [..., dim] with an error in a random direction that is as long as that of `codes` [..., dim].

    Equation 3 of the paper: x + |x - c| v / |v| with v from N(0, I). The gradient goes through x and through
    the length of its error; `codes` are held constant, since moving averages learn them.
    """
    error = vectors - codes.detach()
    length = error.square().sum(-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny).sqrt()
    return vectors + length * F.normalize(torch.randn_like(vectors), dim=-1)
