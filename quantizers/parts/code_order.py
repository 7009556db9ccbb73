"""Order of the codes of a codebook in which each lies near the one before."""

from __future__ import annotations

import torch
from torch import Tensor


def as_path(codes: Tensor) -> Tensor:
    """`codes` [groups, size, dim] in the order of a short path through each group.

    A path starts at the code that is farthest from the mean of its group and goes to the nearest code that
    it has not visited yet (the nearest-neighbour rule of the travelling salesman, Rosenkrantz et al. 1977).
    """
    groups = torch.arange(len(codes), device=codes.device)
    power = codes.square().sum(-1)
    place = (codes - codes.mean(1, keepdim=True)).square().sum(-1).argmax(1)
    visited = torch.zeros_like(power)
    order = [place]
    visited[groups, place] = torch.inf
    for _ in range(codes.shape[1] - 1):
        distance = power - 2 * torch.einsum("gsd,gd->gs", codes, codes[groups, place]) + visited
        place = distance.argmin(1)
        order.append(place)
        visited[groups, place] = torch.inf
    return codes.gather(1, torch.stack(order, 1).unsqueeze(-1).expand_as(codes))
