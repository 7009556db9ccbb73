"""Codebooks of vectors learned by exponential moving averages, with working revival of dead codes.

van den Oord et al. 2017 (arXiv 1711.00937), appendix A.1; k-means start and revival as in Jukebox (arXiv
2005.00341) and SoundStream (arXiv 2107.03312). Written here, not taken from vector-quantize-pytorch,
because that one spends most of a training step on one-hot matrices of [tokens, codes]
(benchmarks/quantizers.py times both).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

BLOCK = 2**25  # most scores held at once


class EMACodebooks(nn.Module):
    """Separate codebooks for `groups` parts of a vector.

    decay: of the moving averages. revive_below: a code whose average use falls below this fraction of an
    even share is replaced by a random vector of the batch; 0 turns that off. All randomness is the global
    torch generator's, and all state is in buffers, so a restored run goes on bit for bit. Under
    `torch.distributed` the statistics are summed over ranks and random choices are rank 0's, so that all
    ranks hold the same codebooks.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(
        self,
        groups: int,
        size: int,
        dim: int,
        *,
        decay: float,
        revive_below: float,
        kmeans_iterations: int = 10,
    ) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        self.decay, self.revive_below, self.kmeans_iterations = decay, revive_below, kmeans_iterations
        self.register_buffer("codes", torch.randn(groups, size, dim))
        self.register_buffer("counts", torch.zeros(groups, size))
        self.register_buffer("sums", torch.zeros(groups, size, dim))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices [groups, tokens] int64 of the codes nearest to `vectors` [groups, tokens, dim]."""
        return _nearest(self.codes, vectors)

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes [groups, tokens, dim] at `indices` [groups, tokens]."""
        return self.codes.gather(1, indices.unsqueeze(-1).expand(-1, -1, self.dim))

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """At the first training batch [groups, tokens, dim], set the codes by k-means."""
        if self.started or not vectors.numel():
            return
        share = vectors.shape[1] * _world() / self.size
        self.codes.copy_(_from_rank_0(_kmeans(vectors, self.size, self.kmeans_iterations)))
        self.counts.fill_(share)
        self.sums.copy_(self.codes * share)
        self.started.fill_(True)

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor) -> None:
        """Move the codes towards the mean of the `vectors` [groups, tokens, dim] that chose them; revive
        dead ones."""
        counts, sums = _cluster(vectors, indices, self.size)
        if _world() > 1:
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        if self.revive_below > 0:
            share = self.counts.mean(1, keepdim=True)
            dead = self.counts < self.revive_below * share
            if dead.any():
                fresh = _from_rank_0(_sample(vectors, self.size))
                # Half a share: enough to be judged on its own use, and to be replaced soon if there is none.
                share = 0.5 * share.expand_as(self.counts)
                self.counts.copy_(torch.where(dead, share, self.counts))
                self.sums.copy_(torch.where(dead.unsqueeze(-1), fresh * share.unsqueeze(-1), self.sums))
        used = (self.counts > 1e-6).unsqueeze(-1)
        self.codes.copy_(torch.where(used, self.sums / self.counts.clamp_min(1e-6).unsqueeze(-1), self.codes))


def perplexity(indices: Tensor, size: int) -> Tensor:
    """Mean over groups of the perplexity of a batch's `indices` [groups, tokens]; at most the number of
    tokens."""
    shape = (indices.shape[0], size)
    counts = torch.zeros(shape, device=indices.device).scatter_add_(
        1, indices, torch.ones_like(indices, dtype=torch.float32)
    )
    shares = counts / max(indices.shape[1], 1)
    return torch.exp(-torch.xlogy(shares, shares).sum(1)).mean()


def _nearest(codes: Tensor, vectors: Tensor) -> Tensor:
    # |v - c|^2 = |v|^2 - 2 (v.c - |c|^2 / 2); |v|^2 is the same for every code.
    bias = codes.square().sum(-1).div(-2).unsqueeze(1)
    block = max(1, BLOCK // (codes.shape[0] * codes.shape[1]))
    parts = [torch.baddbmm(bias, part, codes.mT).argmax(-1) for part in vectors.split(block, dim=1)]
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def _cluster(vectors: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Number [groups, size] and sum [groups, size, dim] of the vectors at each index."""
    groups, _, dim = vectors.shape
    counts = vectors.new_zeros(groups, size).scatter_add_(1, indices, torch.ones_like(vectors[..., 0]))
    sums = vectors.new_zeros(groups, size, dim).scatter_add_(
        1, indices.unsqueeze(-1).expand_as(vectors), vectors
    )
    return counts, sums


def _sample(vectors: Tensor, number: int) -> Tensor:
    """`number` random vectors of each group, without repetition while there are enough; repeats are spread
    by noise."""
    groups, tokens, dim = vectors.shape
    if tokens == 0:
        return vectors.new_zeros(groups, number, dim)
    chosen = torch.stack([torch.randperm(tokens, device=vectors.device)[:number] for _ in range(groups)])
    if tokens < number:
        again = torch.randint(tokens, (groups, number - tokens), device=vectors.device)
        chosen = torch.cat((chosen, again), 1)
    sampled = vectors.gather(1, chosen.unsqueeze(-1).expand(-1, -1, dim))
    if tokens < number:
        spread = 0.1 * vectors.std((0, 1), correction=0)
        sampled[:, tokens:] += spread * torch.randn_like(sampled[:, tokens:])
    return sampled


def _kmeans(vectors: Tensor, number: int, iterations: int) -> Tensor:
    codes = _sample(vectors, number)
    if vectors.shape[1] <= number:
        return codes
    for _ in range(iterations):
        counts, sums = _cluster(vectors, _nearest(codes, vectors), number)
        codes = torch.where(counts.unsqueeze(-1) > 0, sums / counts.clamp_min(1).unsqueeze(-1), codes)
    return codes


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _from_rank_0(values: Tensor) -> Tensor:
    if _world() > 1:
        values = values.contiguous()
        dist.broadcast(values, src=0)
    return values
