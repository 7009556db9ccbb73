"""Intervals and comparisons over seeds and utterances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits."""

    mean: float
    low: float
    high: float


def mean_interval(scores: np.ndarray, confidence: float = 0.95) -> Interval:
    """The mean of `scores [seeds, utterances]` with its interval; utterances with a NaN are left out.

    Every seed is scored on the same utterances, so seeds and utterances are crossed random factors: the
    variance of the mean is (MS_seeds + MS_utterances - MS_rest) / (S U), with Satterthwaite's (1946) degrees
    of freedom. With one seed only the utterances vary.
    """
    mean, error, freedom = standard_error(scores)
    if not np.isfinite(error):
        return Interval(mean, float("nan"), float("nan"))
    from scipy.stats import t

    half = float(t.ppf(0.5 + confidence / 2, freedom)) * error
    return Interval(mean, mean - half, mean + half)


def standard_error(scores: np.ndarray) -> tuple[float, float, float]:
    """Mean, standard error and degrees of freedom of `scores [seeds, utterances]`."""
    complete = scores[:, np.isfinite(scores).all(axis=0)]
    seeds, utterances = complete.shape
    if seeds == 0 or utterances == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(complete.mean())
    if utterances < 2:
        return mean, float("nan"), float("nan")
    if seeds == 1:
        return mean, float(complete.std(ddof=1) / np.sqrt(utterances)), float(utterances - 1)
    cells = seeds * utterances
    by_seed, by_utterance = complete.mean(axis=1), complete.mean(axis=0)
    rest = complete - by_seed[:, None] - by_utterance[None, :] + mean
    free = np.array([seeds - 1, utterances - 1, (seeds - 1) * (utterances - 1)], dtype=float)
    squares = (
        np.array(
            [
                utterances * ((by_seed - mean) ** 2).sum(),
                seeds * ((by_utterance - mean) ** 2).sum(),
                (rest**2).sum(),
            ]
        )
        / free
    )
    # The estimate can fall below what either factor alone explains; never report less than that.
    variance = max(squares[0] + squares[1] - squares[2], squares[0], squares[1]) / cells
    if variance == 0:
        return mean, 0.0, float(free[0])
    freedom = variance**2 / (((squares / cells) ** 2) / free).sum()
    return mean, float(np.sqrt(variance)), float(freedom)
