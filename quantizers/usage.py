"""How much of a codebook is used: one definition, from histograms of codes over a whole set, with N stated.

For a codebook of K codes, of which N tokens were seen, n_i of code i:
- used: codes with n_i > 0; dead: codes with n_i / N < 0.1 / K, unused ones among them.
- entropy: plug-in -sum p log2 p with p = n_i / N, plus the Miller-Madow correction (used - 1) / (2 N ln 2)
  (Miller 1955), at most log2 K. perplexity: 2 ** entropy.
- uniform_*: the same figures as expected from N independent tokens drawn uniformly from K codes, so that a
  codebook of 2^20 codes is judged fairly on 10^5 tokens.

Each factor of a product codebook (a pair, a channel, a stage) is counted alone, each token stream, and all
jointly. Where streams have strides, each token is counted once, and the joint code is that of the tokens of a
whole period, the least common multiple of the strides; frames after the last whole period are in no joint
code. Histograms up to DENSE codes are arrays. Larger codebooks are counted by value, exactly, up to CAP
distinct values; beyond that a fixed pseudo-random half of the values is kept, then a quarter, and so on
(distinct sampling, Gibbons 2001), and figures become unbiased estimates from the values kept; `kept` is
that share, 1.0 while the counts are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from quantizers.uniform_usage import DEAD as DEAD
from quantizers.uniform_usage import uniform_usage as uniform_usage

if TYPE_CHECKING:
    from quantizers.contract import Quantizer

DENSE = 2**20  # codes counted in an array: 8 MB
CAP = 2**21  # distinct values counted one by one: 32 MB
MOST_JOINT = 2**1000  # joint codes whose number a float can hold


class _Dense:
    """Counts of each of `size` codes."""

    kept = 1.0

    def __init__(self, size: int) -> None:
        self.histogram = np.zeros(size, dtype=np.int64)

    def add(self, values: np.ndarray) -> None:
        self.histogram += np.bincount(values, minlength=len(self.histogram))

    @property
    def counts(self) -> np.ndarray:
        return self.histogram[self.histogram > 0]


class _Sparse:
    """Counts of the values seen, in bounded memory. Values are already mixed like random numbers."""

    def __init__(self) -> None:
        self.values = np.zeros(0, dtype=np.uint64)
        self.counts = np.zeros(0, dtype=np.int64)
        self.halvings = 0

    @property
    def kept(self) -> float:
        return 2.0**-self.halvings

    def add(self, values: np.ndarray) -> None:
        seen, counts = np.unique(values, return_counts=True)
        merged = np.concatenate((self.values, seen))
        self.values, inverse = np.unique(merged, return_inverse=True)
        weights = np.concatenate((self.counts, counts))
        self.counts = np.zeros(len(self.values), dtype=np.int64)
        np.add.at(self.counts, inverse, weights)
        self._thin()
        while len(self.values) > CAP:
            self.halvings += 1
            self._thin()

    def _thin(self) -> None:
        if self.halvings:
            keep = self.values >> np.uint64(64 - self.halvings) == 0
            self.values, self.counts = self.values[keep], self.counts[keep]


class UsageCounter:
    """Counts codes batch by batch, and reports how much of the codebooks they use."""

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        factor_sizes: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        factor_strides: Sequence[int] | None = None,
    ) -> None:
        """strides, factor_strides: frames per token of each stream and of each factor; None is one."""
        self.codebook_sizes = tuple(codebook_sizes)
        self.factor_sizes = tuple(factor_sizes if factor_sizes is not None else codebook_sizes)
        self.strides = tuple(strides) if strides is not None else (1,) * len(self.codebook_sizes)
        if factor_strides is None:
            factor_strides = self.strides if factor_sizes is None else (1,) * len(self.factor_sizes)
        self.factor_strides = tuple(factor_strides)
        self.period = math.lcm(*self.strides, *self.factor_strides)
        self.tokens = 0  # frames seen
        self.periods = 0  # whole ones seen
        self._seen = dict.fromkeys({*self.strides, *self.factor_strides}, 0)  # tokens, by stride
        self._factors = [_counter(size) for size in self.factor_sizes]
        # Streams and the joint code are counted apart only where they are not the factors themselves.
        self._streams = (
            None if self.codebook_sizes == self.factor_sizes else [_counter(s) for s in self.codebook_sizes]
        )
        self._joint = _Sparse() if len(self.codebook_sizes) > 1 else None

    @classmethod
    def of(cls, quantizer: Quantizer) -> UsageCounter:
        """A counter of the codes of `quantizer`."""
        return cls(
            quantizer.codebook_sizes,
            quantizer.factor_sizes,
            quantizer.stream_strides,
            quantizer.factor_strides,
        )

    @torch.no_grad()
    def update(self, codes: Tensor, factors: Tensor | None = None) -> None:
        """Count `codes` [..., streams] and the `factors` [..., factors] of the same frames (codes where
        left out). With strides, they are [..., frames, streams], of whole clips.

        Negative codes, which some libraries give to dropped stages, raise ValueError.
        """
        code_rows = _rows(codes, self.codebook_sizes, "codes")
        factor_rows = code_rows if factors is None else _rows(factors, self.factor_sizes, "factors")
        if not len(self.codebook_sizes) or not len(code_rows):
            return
        frames = codes.shape[-2] if codes.ndim > 1 else 1
        clips = len(code_rows) // frames
        self.tokens += len(code_rows)
        self.periods += clips * (frames // self.period)
        for stride in self._seen:
            self._seen[stride] += clips * -(-frames // stride)
        for counter, column, stride in zip(self._factors, factor_rows.T, self.factor_strides, strict=True):
            _add(counter, _tokens(column, frames, stride))
        if self._streams is not None:
            for counter, column, stride in zip(self._streams, code_rows.T, self.strides, strict=True):
                _add(counter, _tokens(column, frames, stride))
        if self._joint is not None:
            # 64-bit hashes of all tokens: n distinct ones collide with a probability of n^2 / 2^65.
            key = np.zeros(clips * (frames // self.period), dtype=np.uint64)
            for column, stride in zip(code_rows.T, self.strides, strict=True):
                for place in range(0, self.period, stride):
                    values = _at_place(column, frames, self.period, place)
                    key = _mix(key ^ _mix(values.astype(np.uint64)))
            self._joint.add(key)

    def _each(
        self, counters: Sequence[_Dense | _Sparse], sizes: Sequence[int], strides: Sequence[int]
    ) -> list[dict[str, Any]]:
        return [
            _figures(counter, size, self._seen[stride])
            for counter, size, stride in zip(counters, sizes, strides, strict=True)
        ]

    def histograms(self) -> dict[str, np.ndarray]:
        """Counts of each code, `factor_0`, `factor_1` and so on, for factors of at most 2^20 codes."""
        return {
            f"factor_{i}": c.histogram.copy() for i, c in enumerate(self._factors) if isinstance(c, _Dense)
        }

    def report(self) -> dict[str, Any]:
        """Plain numbers: means over factors at the top, then `factors`, `streams` and `joint` in full.

        `entropy_bits_per_frame` is the sum of the factors' entropies: the rate of an entropy coder that
        codes each factor by its own frequencies, without context. Where strides do not divide the frames
        of a clip, its last tokens stand for fewer frames, and the rate counts them whole.
        """
        n = self.tokens
        factors = self._each(self._factors, self.factor_sizes, self.factor_strides)
        streams = factors
        if self._streams is not None:
            streams = self._each(self._streams, self.codebook_sizes, self.strides)
        sizes = list(zip(self.codebook_sizes, self.strides, strict=True))
        total = math.prod(size ** (self.period // stride) for size, stride in sizes)
        joint: dict[str, Any] | None = streams[0] if streams else None
        if self._joint is not None:
            known = total < MOST_JOINT
            joint = _figures(self._joint, total, self.periods) if known else None
        if joint is not None and self.period > 1:
            joint = joint | {"frames": self.period}
        means: dict[str, Any] = {}
        if factors and n:
            for key in factors[0]:
                if key not in ("tokens", "codes"):
                    means[key] = math.fsum(f[key] for f in factors) / len(factors)
        return {
            "tokens": n,
            **means,
            "entropy_bits_per_frame": math.fsum(f["entropy_bits"] * (f["tokens"] / n) for f in factors)
            if n
            else 0.0,
            "nominal_bits_per_frame": math.fsum(math.log2(size) / stride for size, stride in sizes),
            "factors": factors,
            "streams": streams,
            "joint": joint,
        }


def _tokens(column: np.ndarray, frames: int, stride: int) -> np.ndarray:
    """Of `column` [clips * frames], the codes that are tokens."""
    return column if stride == 1 else column.reshape(-1, frames)[:, ::stride].reshape(-1)


def _at_place(column: np.ndarray, frames: int, period: int, place: int) -> np.ndarray:
    """Of `column` [clips * frames], the code at `place` of each whole period."""
    if period == 1:
        return column
    whole = frames - frames % period
    return column.reshape(-1, frames)[:, place:whole:period].reshape(-1)


def _figures(counter: _Dense | _Sparse, codes: int, tokens: int) -> dict[str, float | int]:
    counts, kept = counter.counts, counter.kept
    used = len(counts) / kept
    alive = int((counts >= DEAD * tokens / codes).sum()) / kept
    shares = counts / tokens if tokens else counts.astype(float)
    plug_in = float(-(shares * np.log2(shares, where=shares > 0, out=np.zeros_like(shares))).sum()) / kept
    correction = (used - 1) / (2 * tokens * math.log(2)) if tokens else 0.0
    entropy = min(max(plug_in + correction, 0.0), math.log2(codes))
    uniform = uniform_usage(codes, tokens)
    full = math.log2(codes)
    return {
        "tokens": tokens,
        "codes": codes,
        "used": used,
        "used_fraction": used / codes,
        "dead": codes - alive,
        "dead_fraction": 1 - alive / codes,
        "entropy_bits": entropy,
        "entropy_bits_plug_in": plug_in,
        "entropy_fraction": entropy / full if full else 1.0,
        "perplexity": 2.0**entropy,
        "kept": kept,
        "uniform_used_fraction": uniform["used"] / codes,
        "uniform_dead_fraction": uniform["dead"] / codes,
        "uniform_entropy_bits": uniform["entropy_bits"],
        "uniform_perplexity": 2.0 ** uniform["entropy_bits"],
    }


def _counter(size: int) -> _Dense | _Sparse:
    return _Dense(size) if size <= DENSE else _Sparse()


def _add(counter: _Dense | _Sparse, column: np.ndarray) -> None:
    counter.add(column if isinstance(counter, _Dense) else _mix(column.astype(np.uint64)))


def _rows(values: Tensor, sizes: tuple[int, ...], what: str) -> np.ndarray:
    if values.shape[-1] != len(sizes):
        raise ValueError(f"{what} must be [..., {len(sizes)}], not {list(values.shape)}")
    rows = (
        values.detach().reshape(-1, len(sizes)).cpu().numpy() if sizes else np.zeros((0, 0), dtype=np.int64)
    )
    for column, size in zip(rows.T, sizes, strict=True):
        if len(column) and (column.min() < 0 or column.max() >= size):
            raise ValueError(f"{what} must lie in [0, {size}), not in [{column.min()}, {column.max()}]")
    return rows


def _mix(values: np.ndarray) -> np.ndarray:
    """A one-to-one scrambling of 64-bit integers (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
