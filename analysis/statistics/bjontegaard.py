"""Bjontegaard differences between rate-distortion curves, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.statistics.intervals import Interval

GROUPS = 40


@dataclass(frozen=True)
class Curve:
    """A system at several rates: `bitrates [rates]`, `scores [rates, seeds, utterances]`."""

    bitrates: np.ndarray
    scores: np.ndarray


def bd_rate(
    anchor_rates: np.ndarray, anchor_quality: np.ndarray, rates: np.ndarray, quality: np.ndarray
) -> float:
    """Mean difference in bitrate at equal quality, in percent; negative is fewer bits than the anchor.

    Bjontegaard (VCEG-M33) with piecewise cubic interpolation of log-rate over quality. NaN where a curve
    has fewer than two points or isn't strictly monotone, or where the curves share no range of quality.

    Examples:
        >>> rates, quality = np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.5, 2.0])
        >>> round(bd_rate(rates, quality, 1.1 * rates, quality), 6)  # the same quality for 10 % more bits
        10.0
    """
    return _percent(_log_ratio(anchor_rates, anchor_quality, rates, quality))


def _log_ratio(
    anchor_rates: np.ndarray, anchor_quality: np.ndarray, rates: np.ndarray, quality: np.ndarray
) -> float:
    """`bd_rate` as the mean logarithm of the ratio of bitrates."""
    for x, y in ((anchor_rates, anchor_quality), (rates, quality)):
        steps = np.diff(np.asarray(y, dtype=float)[np.argsort(x)])
        if not ((steps > 0).all() or (steps < 0).all()):
            return float("nan")
    return _mean_difference((anchor_quality, np.log(anchor_rates)), (quality, np.log(rates)))


def _percent(log_ratio: float) -> float:
    return 100 * float(np.expm1(log_ratio))


def bd_quality(
    anchor_rates: np.ndarray, anchor_quality: np.ndarray, rates: np.ndarray, quality: np.ndarray
) -> float:
    """Mean difference in quality at equal bitrate, in the metric's unit: the curve less the anchor.

    The same with quality over log-rate. NaN where a curve has fewer than two points, or where the curves
    share no range of bitrates.
    """
    return _mean_difference((np.log(anchor_rates), anchor_quality), (np.log(rates), quality))


def _mean_difference(anchor: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """Mean of the second curve less the first over the range of `x` that both `(x, y)` cover."""
    from scipy.interpolate import PchipInterpolator

    curves = []
    for x, y in (anchor, other):
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        order = np.argsort(x)
        x, y = x[order], y[order]
        if len(x) < 2 or not (np.diff(x) > 0).all():
            return float("nan")
        curves.append((x, PchipInterpolator(x, y)))
    low = max(x[0] for x, _ in curves)
    high = min(x[-1] for x, _ in curves)
    if not high > low:
        return float("nan")
    areas = [float(curve.integrate(low, high)) for _, curve in curves]
    return (areas[1] - areas[0]) / (high - low)


def bd_rate_interval(anchor: Curve, other: Curve, *, confidence: float = 0.95) -> Interval:
    """BD-rate in percent, with an interval over seeds and utterances, which is symmetric in the logarithm of
    bitrates and so never falls below -100 %."""
    interval = _interval(_log_ratio, anchor, other, confidence)
    return Interval(_percent(interval.mean), _percent(interval.low), _percent(interval.high))


def bd_quality_interval(anchor: Curve, other: Curve, *, confidence: float = 0.95) -> Interval:
    """BD-quality in the metric's unit, with an interval over seeds and utterances."""
    return _interval(bd_quality, anchor, other, confidence)


def _interval(
    measure: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], float],
    anchor: Curve,
    other: Curve,
    confidence: float,
) -> Interval:
    """A jackknife over seeds and one over at most `GROUPS` groups of utterances, each leaving the same ones
    out of both curves, give a standard error each; they are put together with Student's quantiles as in
    `significance`. NaN limits where leaving something out leaves no difference to measure.
    """
    from scipy.stats import t

    keep = np.isfinite(anchor.scores).all(axis=(0, 1)) & np.isfinite(other.scores).all(axis=(0, 1))
    seeds = min(anchor.scores.shape[1], other.scores.shape[1])
    first, second = (curve.scores[:, :seeds, keep] for curve in (anchor, other))

    def without(axis: int, left_out: np.ndarray) -> float:
        means = [np.delete(scores, left_out, axis=axis).mean(axis=(1, 2)) for scores in (first, second)]
        return measure(anchor.bitrates, means[0], other.bitrates, means[1])

    nobody = np.array([], dtype=int)
    centre = without(1, nobody) if first.size else float("nan")
    square = 0.0
    for axis in (1, 2):
        count = first.shape[axis]
        groups = np.array_split(np.arange(count), min(count, GROUPS))
        if len(groups) < 2:
            continue
        values = np.array([without(axis, group) for group in groups])
        error = np.sqrt((len(groups) - 1) * values.var())
        square += float((t.isf((1 - confidence) / 2, len(groups) - 1) * error) ** 2)
    half = float(np.sqrt(square)) if square > 0 and np.isfinite(square) else float("nan")
    return Interval(centre, centre - half, centre + half)
