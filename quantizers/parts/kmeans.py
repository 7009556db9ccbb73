"""Nearest codes and k-means (Lloyd 1982), for one codebook or several side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 2**25  # most scores held at once
RUN = 64  # scores that are compared at once


def argmax(scores: Tensor) -> Tensor:
    """Places [...] int64 of the greatest of `scores` [..., size], the first of equal ones.

    `scores.argmax(-1)`, two to five times as fast on CPUs from 1000 scores on: there `argmax` goes value by
    value and `amax` does not, so the best run of `RUN` scores is found before the place in it.
    """
    size = scores.shape[-1]
    if size < 4 * RUN:
        return scores.argmax(-1)
    whole = size // RUN * RUN
    best = scores[..., :whole].unflatten(-1, (-1, RUN)).amax(-1)
    if whole < size:
        best = torch.cat((best, scores[..., whole:].amax(-1, keepdim=True)), -1)
    first = RUN * best.argmax(-1, keepdim=True)
    places = (first + torch.arange(RUN, device=scores.device)).clamp(max=size - 1)
    return places.gather(-1, scores.gather(-1, places).argmax(-1, keepdim=True)).squeeze(-1)


def nearest(codes: Tensor, vectors: Tensor) -> Tensor:
    """Indices [groups, tokens] int64 of the `codes` [groups, size, dim] nearest to `vectors`
    [groups, tokens, dim] by Euclidean distance."""
    # |v - c|^2 = |v|^2 - 2 (v.c - |c|^2 / 2); |v|^2 is the same for every code.
    bias = codes.square().sum(-1).div(-2).unsqueeze(1)
    block = max(1, BLOCK // (codes.shape[0] * codes.shape[1]))
    parts = [argmax(torch.baddbmm(bias, part, codes.mT)) for part in vectors.split(block, dim=1)]
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def cluster(vectors: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Number [groups, size] and sum [groups, size, dim] of the vectors at each index."""
    groups, _, dim = vectors.shape
    counts = vectors.new_zeros(groups, size).scatter_add_(1, indices, torch.ones_like(vectors[..., 0]))
    sums = vectors.new_zeros(groups, size, dim).scatter_add_(
        1, indices.unsqueeze(-1).expand_as(vectors), vectors
    )
    return counts, sums


def sample(vectors: Tensor, number: int, generator: torch.Generator | None = None) -> Tensor:
    """`number` random vectors of each group, without repetition while there are enough; repeats are spread
    by noise.

    generator: one of the CPU; None draws from the global generator of the vectors' device.
    """
    groups, tokens, dim = vectors.shape
    device = vectors.device if generator is None else torch.device("cpu")
    if tokens == 0:
        return vectors.new_zeros(groups, number, dim)
    chosen = torch.stack(
        [torch.randperm(tokens, device=device, generator=generator)[:number] for _ in range(groups)]
    )
    if tokens < number:
        again = torch.randint(tokens, (groups, number - tokens), device=device, generator=generator)
        chosen = torch.cat((chosen, again), 1)
    sampled = vectors.gather(1, chosen.to(vectors.device).unsqueeze(-1).expand(-1, -1, dim))
    if tokens < number:
        spread = 0.1 * vectors.std((0, 1), correction=0)
        noise = torch.randn((groups, number - tokens, dim), device=device, generator=generator)
        sampled[:, tokens:] += spread * noise.to(vectors)
    return sampled


def kmeans(
    vectors: Tensor,
    number: int,
    iterations: int,
    generator: torch.Generator | None = None,
    choose: Callable[[Tensor, Tensor], Tensor] = nearest,
) -> Tensor:
    """Codes [groups, number, dim] of `vectors` [groups, tokens, dim], from a random sample of them.

    A code that nothing chooses stays where it is. choose: what takes codes and vectors to indices; each code
    becomes the mean of the vectors that choose it.
    """
    codes = sample(vectors, number, generator)
    if vectors.shape[1] <= number:
        return codes
    for _ in range(iterations):
        counts, sums = cluster(vectors, choose(codes, vectors), number)
        codes = torch.where(counts.unsqueeze(-1) > 0, sums / counts.clamp_min(1).unsqueeze(-1), codes)
    return codes
