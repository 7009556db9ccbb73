"""The rotation trick: gradients through a vector quantizer (Fifty et al. 2024, arXiv 2410.06424)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def rotate_to(vectors: Tensor, codes: Tensor) -> Tensor:
    """`codes` in the forward pass; backward, the rotation and scaling that took `vectors` there, held
    constant.

    Equation 4 of the paper: q = (|q| / |e|) (I - 2 r r^T + 2 q' e'^T) e with e', q' the unit vectors and
    r = (e' + q') / |e' + q'|. Both [..., dim]. The value is exactly `codes`.
    """
    source, target = F.normalize(vectors.detach(), dim=-1), F.normalize(codes.detach(), dim=-1)
    middle = F.normalize(source + target, dim=-1)
    scale = codes.detach().norm(dim=-1, keepdim=True) / vectors.detach().norm(dim=-1, keepdim=True).clamp_min(
        1e-6
    )

    def along(direction: Tensor) -> Tensor:
        return (vectors * direction).sum(-1, keepdim=True)

    rotated = scale * (vectors - 2 * along(middle) * middle + 2 * along(source) * target)
    return codes.detach() + (rotated - rotated.detach())
