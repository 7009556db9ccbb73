"""Codebooks of vectors learned by exponential moving averages or by gradients, with working revival of dead
codes.

van den Oord et al. 2017 (arXiv 1711.00937), appendix A.1; k-means start and revival as in Jukebox (arXiv
2005.00341) and SoundStream (arXiv 2107.03312). Written here, not taken from vector-quantize-pytorch,
because that one spends most of a training step on one-hot matrices of [tokens, codes]
(benchmarks/quantizers.py times both).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from quantizers.contract import Config
from quantizers.option_checks import QuantizerError, check_choice, check_count, check_weight
from quantizers.parts.code_order import as_path
from quantizers.parts.kmeans import cluster, kmeans, nearest, sample

GRADIENTS = ("unit", "noise", "diveq", "sf-diveq")
TRAINED = ("diveq", "sf-diveq")  # their codes are parameters, and there is no commitment loss
COMMITMENT = 0.25


@dataclass(frozen=True, kw_only=True)
class EMAConfig(Config):
    """Options of codebooks that are learned by moving averages.

    codebook_size: codes per codebook.
    codebook_dim: dimension of the codes; None is the dimension of the features.
    commitment: weight of the commitment loss (beta of arXiv 1711.00937).
    decay: decay of the moving averages of codes and counts per step. With `diveq` and `sf-diveq`, only of the
        counts, by which unused codes are found.
    revive_below: codes used less than this fraction of an even share are replaced; 0 replaces none.
    kmeans_iterations: iterations of the k-means that initialises the codebooks; 0 takes features as codes.
    rotation_trick: true uses the gradient of Fifty et al. (arXiv 2410.06424) instead of straight-through.
    gradient: `unit` is straight-through, unless `rotation_trick` is true. `noise` adds, in training, an error
        as long as that of the nearest code in a random direction (NSVQ, see `parts.noise_substitution`).
        `diveq` and `sf-diveq` learn the codes by gradients without a commitment loss (arXiv 2509.26469, see
        `parts.vector_gradients`).
    """

    added: ClassVar[tuple[str, ...]] = ("gradient",)

    codebook_size: int = 1024
    codebook_dim: int | None = None
    commitment: float = COMMITMENT
    decay: float = 0.99
    revive_below: float = 0.1
    kmeans_iterations: int = 10
    rotation_trick: bool = False
    gradient: str = "unit"

    def __post_init__(self) -> None:
        check_count("codebook_size", self.codebook_size, minimum=2)
        if self.codebook_dim is not None:
            check_count("codebook_dim", self.codebook_dim)
        check_weight("commitment", self.commitment)
        check_weight("decay", self.decay, maximum=1.0)
        check_weight("revive_below", self.revive_below, maximum=1.0)
        check_count("kmeans_iterations", self.kmeans_iterations, minimum=0)
        check_choice("gradient", self.gradient, GRADIENTS)
        if self.rotation_trick and self.gradient != "unit":
            raise QuantizerError(
                f"rotation_trick and gradient: {self.gradient} are two gradients; give one of them"
            )
        if self.trained and self.commitment not in (0, COMMITMENT):
            raise QuantizerError(f"commitment has no effect with gradient: {self.gradient}; leave it out")

    @property
    def trained(self) -> bool:
        """Whether codes are parameters that gradients move, not moving averages."""
        return self.gradient in TRAINED


class EMACodebooks(nn.Module):
    """Separate codebooks for `groups` parts of a vector, moved by `update` at once or, after `hold`, by
    `move`; where the options say `trained`, codes are parameters, and only dead ones are moved here.

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
        self.trained, self.ordered = config.trained, config.gradient == "sf-diveq"
        codes = torch.randn(groups, self.size, dim)
        if self.trained:
            self.codes = nn.Parameter(codes)
        else:
            self.register_buffer("codes", codes)
        self.register_buffer("counts", torch.zeros(groups, self.size))
        if not self.trained:
            self.register_buffer("sums", torch.zeros(groups, self.size, dim))
        self.register_buffer("started", torch.tensor(False))
        self._held: list[tuple[Tensor, Tensor, Tensor]] | None = None
        self._has_started = False  # known to the host; where it is not, `started` is asked

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Indices [groups, tokens] int64 of the codes nearest to `vectors` [groups, tokens, dim]."""
        return nearest(self.codes, vectors)

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes [groups, tokens, dim] at `indices` [groups, tokens]."""
        return self.codes.gather(1, indices.unsqueeze(-1).expand(-1, -1, self.dim))

    def on_segments(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the segments between each code and the next, those with the point nearest to `vectors` [groups,
        tokens, dim]: both ends [groups, tokens, dim] and the share [groups, tokens, 1] of the second.

        One random point stands for each segment, drawn anew in each call (arXiv 2509.26469).
        """
        shares = torch.rand(len(self.codes), self.size - 1, 1, device=self.codes.device)
        with torch.no_grad():
            index = nearest(torch.lerp(self.codes[:, :-1], self.codes[:, 1:], shares), vectors)
        return self.lookup(index), self.lookup(index + 1), shares.gather(1, index.unsqueeze(-1))

    @torch.no_grad()
    def assign(self, codes: Tensor, count: float) -> None:
        """Begin with `codes` [groups, size, dim], as if `count` vectors had chosen each."""
        self.codes.copy_(codes)
        self.counts.fill_(count)
        if not self.trained:
            self.sums.copy_(self.codes * count)
        self.started.fill_(True)
        self._has_started = True

    def _is_started(self) -> bool:
        """Whether codes have been set. Once they are, this makes the host wait for no device."""
        self._has_started = self._has_started or bool(self.started)
        return self._has_started

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._has_started = False  # what was loaded says

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """At the first training batch [groups, tokens, dim], set the codes by k-means, over all ranks.

        Does nothing where they were set before.
        """
        if self._is_started() or not vectors.numel():
            return
        vectors = _of_all_ranks(vectors)
        codes = _from_rank_0(self._clustered(vectors))
        self.assign(codes, vectors.shape[1] / self.size)

    @torch.no_grad()
    def start_from(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Set the codes by k-means on `vectors` [groups, tokens, dim], drawing from `generator` alone.

        Does nothing where they were set before, as by released weights. Nothing is exchanged between ranks.
        The averages count as those of batches with one token a code, which is the order of usual ones (1200
        tokens, 1024 codes): with the number of `vectors`, they would hold codes back for hundreds of steps.
        """
        if not self._is_started():
            self.assign(self._clustered(vectors, generator), 1.0)

    def _clustered(self, vectors: Tensor, generator: torch.Generator | None = None) -> Tensor:
        codes = kmeans(vectors, self.size, self.kmeans_iterations, generator)
        return as_path(codes) if self.ordered else codes

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor) -> None:
        """Move the codes towards the mean of the `vectors` [groups, tokens, dim] that chose them; revive
        dead ones."""
        counts, sums = cluster(vectors, indices, self.size)
        if self._held is None:
            self._moved_by(counts, sums, vectors)
        else:
            self._held.append((counts, sums, vectors))

    def hold(self) -> None:
        """From now on, `update` only gathers: a step of several batches moves the codes once, by `move`."""
        self._held = []

    @torch.no_grad()
    def move(self, finite: Tensor) -> None:
        """Move the codes by what was gathered since `hold`, or forget it where `finite`, a scalar on their
        device, is false."""
        held, self._held = self._held, None
        if not held or (_at_once(finite) and not finite):
            return
        counts, sums, vectors = zip(*held, strict=True)
        state = (self.counts, self.codes, *(() if self.trained else (self.sums,)))
        before = () if _at_once(finite) else tuple(value.clone() for value in state)
        # torch.stack(...).sum(0) of one is that one, bit for bit.
        self._moved_by(torch.stack(counts).sum(0), torch.stack(sums).sum(0), torch.cat(vectors, 1))
        for now, then in zip(state, before, strict=False):
            now.copy_(torch.where(finite, now, then))

    def _moved_by(self, counts: Tensor, sums: Tensor, vectors: Tensor) -> None:
        if _world() > 1:
            dist.all_reduce(counts)
            if not self.trained:
                dist.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        if not self.trained:
            self.sums.lerp_(sums, 1 - self.decay)
        if self.revive_below > 0:
            share = self.counts.mean(1, keepdim=True)
            dead = self.counts < self.revive_below * share
            # To ask whether any code is dead makes the host wait for a GPU, so one that is alone draws at
            # every step. Among processes drawing costs more: it exchanges the vectors of all.
            alone_on_gpu = not _at_once(dead) and _world() == 1
            if alone_on_gpu or dead.any():
                fresh = _from_rank_0(sample(_of_all_ranks(vectors), self.size))
                # Half a share: enough to be judged on its own use, and to be replaced soon if there is none.
                share = 0.5 * share.expand_as(self.counts)
                self.counts.copy_(torch.where(dead, share, self.counts))
                if self.trained:
                    self.codes.copy_(torch.where(dead.unsqueeze(-1), fresh, self.codes))
                else:
                    self.sums.copy_(torch.where(dead.unsqueeze(-1), fresh * share.unsqueeze(-1), self.sums))
        if self.trained:
            return
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


def _at_once(values: Tensor) -> bool:
    """Whether the host can read `values` without waiting for a device."""
    return not values.is_cuda


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
