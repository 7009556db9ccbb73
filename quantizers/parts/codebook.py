"""Codebooks of vectors learned by exponential moving averages, with working revival of dead codes.

van den Oord et al. 2017 (arXiv 1711.00937), appendix A.1; k-means start and revival as in Jukebox (arXiv
2005.00341) and SoundStream (arXiv 2107.03312). Written here, not taken from vector-quantize-pytorch,
because that one spends most of a training step on one-hot matrices of [tokens, codes]
(benchmarks/quantizers.py times both).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from quantizers.contract import Config
from quantizers.option_checks import check_count, check_weight

BLOCK = 2**25  # most scores held at once
RUN = 64  # scores that are compared at once


@dataclass(frozen=True, kw_only=True)
class EMAConfig(Config):
    """codebook_size: codes of each codebook. codebook_dim: dimension of its vectors; None is the features'.

    commitment: weight of the commitment loss (beta of the paper). decay: of the moving averages.
    revive_below: replace codes used less than this fraction of an even share; 0 never does.
    rotation_trick: gradient of Fifty et al. (arXiv 2410.06424) in place of straight-through.
    """

    codebook_size: int = 1024
    codebook_dim: int | None = None
    commitment: float = 0.25
    decay: float = 0.99
    revive_below: float = 0.1
    kmeans_iterations: int = 10
    rotation_trick: bool = False

    def __post_init__(self) -> None:
        check_count("codebook_size", self.codebook_size, minimum=2)
        if self.codebook_dim is not None:
            check_count("codebook_dim", self.codebook_dim)
        check_weight("commitment", self.commitment)
        check_weight("decay", self.decay, maximum=1.0)
        check_weight("revive_below", self.revive_below, maximum=1.0)
        check_count("kmeans_iterations", self.kmeans_iterations, minimum=0)


class EMACodebooks(nn.Module):
    """Separate codebooks for `groups` parts of a vector, moved by `update` at once or, after `hold`, by
    `move`.

    A code that is revived becomes a random vector of the batch. All randomness is the global torch
    generator's, and all state is in buffers, so a restored run goes on bit for bit. Under
    `torch.distributed` the statistics are summed over ranks, which take as many tokens each, and random
    choices are made by rank 0 among the vectors of all, so that all ranks hold the same codebooks.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(self, groups: int, dim: int, config: EMAConfig) -> None:
        super().__init__()
        self.size, self.dim = config.codebook_size, dim
        self.decay, self.revive_below = config.decay, config.revive_below
        self.kmeans_iterations = config.kmeans_iterations
        self.register_buffer("codes", torch.randn(groups, self.size, dim))
        self.register_buffer("counts", torch.zeros(groups, self.size))
        self.register_buffer("sums", torch.zeros(groups, self.size, dim))
        self.register_buffer("started", torch.tensor(False))
        self._held: list[tuple[Tensor, Tensor, Tensor]] | None = None

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices [groups, tokens] int64 of the codes nearest to `vectors` [groups, tokens, dim]."""
        return _nearest(self.codes, vectors)

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes [groups, tokens, dim] at `indices` [groups, tokens]."""
        return self.codes.gather(1, indices.unsqueeze(-1).expand(-1, -1, self.dim))

    @torch.no_grad()
    def assign(self, codes: Tensor, count: float) -> None:
        """Begin with `codes` [groups, size, dim] instead of k-means, as if `count` vectors had chosen each
        of them."""
        self.codes.copy_(codes)
        self.counts.fill_(count)
        self.sums.copy_(self.codes * count)
        self.started.fill_(True)

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """At the first training batch [groups, tokens, dim], set the codes by k-means, over all ranks."""
        if self.started or not vectors.numel():
            return
        vectors = _of_all_ranks(vectors)
        share = vectors.shape[1] / self.size
        self.assign(_from_rank_0(_kmeans(vectors, self.size, self.kmeans_iterations)), share)

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor) -> None:
        """Move the codes towards the mean of the `vectors` [groups, tokens, dim] that chose them; revive
        dead ones."""
        counts, sums = _cluster(vectors, indices, self.size)
        if self._held is None:
            self._moved_by(counts, sums, vectors)
        else:
            self._held.append((counts, sums, vectors))

    def hold(self) -> None:
        """From now on, `update` only gathers: a step of several batches moves the codes once, by `move`,
        and one that failed does not, by `drop`."""
        self._held = []

    @torch.no_grad()
    def move(self) -> None:
        """Move the codes by what was gathered since `hold`."""
        held, self._held = self._held, None
        if held:
            counts, sums, vectors = zip(*held, strict=True)
            # torch.stack(...).sum(0) of one is that one, bit for bit.
            self._moved_by(torch.stack(counts).sum(0), torch.stack(sums).sum(0), torch.cat(vectors, 1))

    def drop(self) -> None:
        """Forget what was gathered since `hold`."""
        self._held = None

    def _moved_by(self, counts: Tensor, sums: Tensor, vectors: Tensor) -> None:
        if _world() > 1:
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        if self.revive_below > 0:
            share = self.counts.mean(1, keepdim=True)
            dead = self.counts < self.revive_below * share
            if dead.any():
                fresh = _from_rank_0(_sample(_of_all_ranks(vectors), self.size))
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


def _nearest(codes: Tensor, vectors: Tensor) -> Tensor:
    # |v - c|^2 = |v|^2 - 2 (v.c - |c|^2 / 2); |v|^2 is the same for every code.
    bias = codes.square().sum(-1).div(-2).unsqueeze(1)
    block = max(1, BLOCK // (codes.shape[0] * codes.shape[1]))
    parts = [argmax(torch.baddbmm(bias, part, codes.mT)) for part in vectors.split(block, dim=1)]
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


def _of_all_ranks(vectors: Tensor) -> Tensor:
    """The `vectors` [groups, tokens, dim] of all ranks, which have as many each."""
    if _world() == 1:
        return vectors
    gathered = [torch.empty_like(vectors, memory_format=torch.contiguous_format) for _ in range(_world())]
    dist.all_gather(gathered, vectors.contiguous())
    return torch.cat(gathered, 1)


def _from_rank_0(values: Tensor) -> Tensor:
    if _world() > 1:
        values = values.contiguous()
        dist.broadcast(values, src=0)
    return values
