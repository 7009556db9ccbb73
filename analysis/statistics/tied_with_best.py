"""The best system, and those that carry `~` in tables: what cannot be told from it."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.results.columns import quality_column
from analysis.results.study_results import Results
from analysis.statistics.best import best_of
from analysis.statistics.comparisons import LEVEL, means_of, pairwise


def leaders(results: Results, metric: str, labels: Sequence[str]) -> tuple[str, set[str]] | None:
    """The best of `labels`, and those that can't be told from it at the 5 % level.

    None with one seed, which can't show whether another training would turn out the same, and for a metric
    whose direction is not known.
    """
    frame = pairwise(results, metric, labels)
    if len(labels) < 2 or frame.empty or frame["seeds"].min() < 2:
        return None
    best = best_of(means_of(results, metric, labels), quality_column(metric).higher_is_better)
    if best is None:
        return None
    with_best = frame[(frame["first"] == best) | (frame["second"] == best)]
    tied = with_best[with_best["p_holm"] > LEVEL]
    return best, (set(tied["first"]) | set(tied["second"])) - {best}
