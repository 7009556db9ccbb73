"""Intervals and tests over seeds and utterances.

Every seed of a system is scored on the same utterances, so seeds and utterances are crossed random factors:
`x[seed, utterance] = mean + seed effect + utterance effect + rest`. The half-width of an interval is

    sqrt(t(seeds - 1)^2 MS_seeds / (S U) + t(utterances - 1)^2 max(MS_utterances - MS_rest, 0) / (S U)),

each variance estimate with Student's quantile of its own degrees of freedom (Howe 1974; Graybill and
Wang 1980). It keeps its level with few seeds, whether or not seeds matter. A percentile bootstrap over three
seeds does not: where seeds differ as much as utterances, it rejects a true null hypothesis in one case of
five instead of twenty (tests/analysis/statistics/test_intervals.py measures both).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_HALVINGS = 50


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Second system less the first, on the same seeds and utterances."""

    mean: float
    low: float
    high: float
    p_value: float
    improvement: float  # probability that a training of the second beats one of the first on an utterance
    seeds: int
    utterances: int
    spread: Spread  # of the differences


@dataclass(frozen=True)
class Spread:
    """Mean of `[..., seeds, utterances]` and what its squared error is made of."""

    mean: np.ndarray
    by_seed: np.ndarray
    by_utterance: np.ndarray
    seeds: int
    utterances: int

    def half_width(self, level: np.ndarray | float) -> np.ndarray:
        """Half-width of the interval with error probability `level`."""
        level = np.asarray(level, dtype=float)
        square = student_quantile(level / 2, self.utterances - 1) ** 2 * self.by_utterance
        if self.seeds > 1:
            square = square + student_quantile(level / 2, self.seeds - 1) ** 2 * self.by_seed
        return np.sqrt(square)

    def p_value(self) -> np.ndarray:
        """The error probability at which the interval just reaches zero, found by bisection."""
        distance = np.abs(self.mean)
        if distance.ndim == 0:
            return np.asarray(self._p_value(float(distance)))
        low, high = np.full_like(distance, -40.0), np.zeros_like(distance)  # log10 of the level
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            reaches = self.half_width(10.0**middle) >= distance
            low, high = np.where(reaches, middle, low), np.where(reaches, high, middle)
        return np.where(distance == 0, 1.0, 10.0**high)

    def _p_value(self, distance: float) -> float:
        """The same for a single mean at `distance` from zero, in plain numbers: ten times faster."""
        from scipy.special import stdtrit

        if distance == 0:
            return 1.0
        by_seed, by_utterance = float(self.by_seed), float(self.by_utterance)
        low, high = -40.0, 0.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            level = 10.0**middle / 2
            square = float(stdtrit(self.utterances - 1, level)) ** 2 * by_utterance
            if self.seeds > 1:
                square += float(stdtrit(self.seeds - 1, level)) ** 2 * by_seed
            low, high = (middle, high) if math.sqrt(square) >= distance else (low, middle)
        return 10.0**high


def student_quantile(level: np.ndarray, freedom: int) -> np.ndarray:
    """The value that Student's t exceeds with probability `level`, in (0, 1).

    `scipy.stats.t.isf` is this, after checks that cost a hundred times as much, and a second for its import.
    """
    from scipy.special import stdtrit

    return -stdtrit(freedom, level)


def spread(scores: np.ndarray) -> Spread:
    """Analysis of variance of `scores [..., seeds, utterances]`, two utterances at least, all finite."""
    seeds, utterances = scores.shape[-2:]
    mean = scores.mean(axis=(-2, -1))
    if seeds == 1:
        error = scores[..., 0, :].var(axis=-1, ddof=1) / utterances
        return Spread(mean, np.zeros_like(mean), error, seeds, utterances)
    of_seeds, of_utterances, of_rest = mean_squares(scores)
    cells = seeds * utterances
    return Spread(mean, of_seeds / cells, np.maximum(of_utterances - of_rest, 0) / cells, seeds, utterances)


def mean_squares(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean squares of seeds, of utterances and of the rest of `scores [..., seeds, utterances]`, two each."""
    seeds, utterances = scores.shape[-2:]
    by_seed, by_utterance = scores.mean(axis=-1), scores.mean(axis=-2)
    mean = scores.mean(axis=(-2, -1))
    rest = scores - by_seed[..., :, None] - by_utterance[..., None, :] + mean[..., None, None]
    of_rest = (rest**2).sum(axis=(-2, -1)) / ((seeds - 1) * (utterances - 1))
    of_seeds = utterances * by_seed.var(axis=-1, ddof=1)
    of_utterances = seeds * by_utterance.var(axis=-1, ddof=1)
    return of_seeds, of_utterances, of_rest


def mean_interval(scores: np.ndarray, confidence: float = 0.95) -> Interval:
    """The mean of `scores [seeds, utterances]` with its interval; utterances with a NaN are left out."""
    kept = complete(scores)
    if kept.shape[1] < 2:
        mean = float(kept.mean()) if kept.size else float("nan")
        return Interval(mean, float("nan"), float("nan"))
    variance = spread(kept)
    half = float(variance.half_width(1 - confidence))
    return Interval(float(variance.mean), float(variance.mean) - half, float(variance.mean) + half)


def paired_difference(
    first: np.ndarray, second: np.ndarray, *, higher_is_better: bool = True, confidence: float = 0.95
) -> Difference:
    """Compare two systems, both `[seeds, utterances]` with seeds and utterances in the same order.

    Utterances that failed anywhere are left out. With one seed the interval and the p-value cover utterances
    only: they can't say whether another training would come out the same.

    Raises:
        ValueError: shapes differ, or fewer than two utterances are left.

    Examples:
        >>> vq, fsq = np.array([[1.0, 1.2, 1.4, 1.6]]), np.array([[1.2, 1.3, 1.7, 1.8]])
        >>> found = paired_difference(vq, fsq)  # one seed, four utterances; second less first
        >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2), round(found.p_value, 3)
        (0.2, 0.07, 0.33, 0.016)
    """
    if first.shape != second.shape:
        raise ValueError(f"paired scores need one shape; got {first.shape} and {second.shape}")
    keep = np.isfinite(first).all(axis=0) & np.isfinite(second).all(axis=0)
    if keep.sum() < 2:
        raise ValueError("fewer than two utterances were scored for both systems")
    first, second = first[:, keep], second[:, keep]
    variance = spread(second - first)
    half = float(variance.half_width(1 - confidence))
    mean = float(variance.mean)
    gain = (second[:, None, :] - first[None, :, :]) * (1 if higher_is_better else -1)
    return Difference(
        mean=mean,
        low=mean - half,
        high=mean + half,
        p_value=float(variance.p_value()),
        improvement=float((gain > 0).mean() + (gain == 0).mean() / 2),
        seeds=first.shape[0],
        utterances=first.shape[1],
        spread=variance,
    )


def hierarchical_bootstrap(scores: np.ndarray, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Means of `scores [..., seeds, utterances]` with seeds and utterances drawn again, `[..., draws]`.

    Its spread understates the variance between seeds by (S - 1) / S; tests use `spread` instead.
    """
    seeds, utterances = scores.shape[-2:]
    generator = np.random.default_rng(seed)
    by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
    by_utterance = (
        generator.multinomial(utterances, np.full(utterances, 1 / utterances), size=draws) / utterances
    )
    return np.einsum("ds,...su,du->...d", by_seed, scores, by_utterance, optimize=True)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's (1979) step-down correction: adjusted p-values in the order given.

    Examples:
        >>> holm([0.04, 0.01, 0.03]).tolist()
        [0.06, 0.03, 0.06]
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate(values[order] * (len(values) - np.arange(len(values))))
    result = np.empty_like(values)
    result[order] = np.minimum(adjusted, 1.0)
    return result


def holm_levels(p_values: Sequence[float], level: float) -> np.ndarray:
    """The level at which Holm's procedure tests each value, in the order given.

    The procedure tests the smallest of n values at level / n, the next at level / (n - 1), and so on, and
    stops at the first that it does not reject; the others are then not rejected at the same level. An
    interval of error probability `holm_levels` leaves 0 out just where `holm` is at most `level`.

    Examples:
        >>> holm_levels([0.04, 0.01, 0.03], 0.06).tolist()  # all are rejected
        [0.06, 0.02, 0.03]
        >>> holm_levels([0.04, 0.01, 0.05], 0.06).tolist()  # 0.04 is not below 0.03: it stops
        [0.03, 0.02, 0.03]
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = level / (len(values) - np.arange(len(values)))
    kept = np.flatnonzero(values[order] > steps)
    if len(kept):
        steps[kept[0] :] = steps[kept[0]]
    result = np.empty_like(values)
    result[order] = steps
    return result


def average_ranks(scores: np.ndarray, *, higher_is_better: bool = True) -> np.ndarray:
    """Mean rank of each system over blocks, `scores [blocks, systems]`; 1 is best, ties share their ranks."""
    from scipy.stats import rankdata

    return rankdata(-scores if higher_is_better else scores, axis=1).mean(axis=0)


def critical_difference(systems: int, blocks: int, level: float = 0.05) -> float:
    """Nemenyi's critical difference of average ranks (Demsar 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    quantile = float(studentized_range.isf(level, systems, np.inf)) / np.sqrt(2)
    return quantile * float(np.sqrt(systems * (systems + 1) / (6 * blocks)))


def complete(scores: np.ndarray) -> np.ndarray:
    """`scores [seeds, utterances]` without the utterances that failed anywhere."""
    return scores[:, np.isfinite(scores).all(axis=0)]
