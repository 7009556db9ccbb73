"""The best system, those that are significantly worse, and those between which no difference was shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analysis.results.columns import quality_column
from analysis.results.study_results import Results
from analysis.statistics.best import best_of
from analysis.statistics.comparisons import LEVEL, means_of, pairwise


class Leaders(NamedTuple):
    """The best system by its mean, and the others by whether their difference to it is significant."""

    best: str
    tied: frozenset[str]
    worse: frozenset[str]


def leaders(results: Results, metric: str, labels: Sequence[str]) -> Leaders | None:
    """Compare `labels` with the best of them at the 5 % level, corrected for all their pairs (Holm).

    The correction includes all pairs, not only those with the best, because the data choose the best. A label
    without a common score with the best is in neither group. The result is None with one seed, where the
    variance between trainings is not known, and for a metric whose direction is not known.
    """
    frame = pairwise(results, metric, labels)
    if len(labels) < 2 or frame.empty or frame["seeds"].min() < 2:
        return None
    best = best_of(means_of(results, metric, labels), quality_column(metric).higher_is_better)
    if best is None:
        return None
    with_best = frame[(frame["first"] == best) | (frame["second"] == best)]
    others = with_best["first"].where(with_best["second"] == best, with_best["second"])
    significant = with_best["p_holm"] <= LEVEL
    return Leaders(best, frozenset(others[~significant]), frozenset(others[significant]))
