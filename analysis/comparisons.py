"""Compare the systems of a study pair by pair, and say which can't be told from the best."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.bjontegaard import Curve, bd_rate_interval
from analysis.estimates import quality_column, series
from analysis.results import Results
from analysis.significance import holm, paired_difference

LEVEL = 0.05
COLUMNS = ["first", "second", "metric", "difference", "low", "high", "p_value", "p_holm", "improvement"]


def scores_of(
    results: Results, metric: str, labels: Sequence[str]
) -> tuple[list[int], dict[str, np.ndarray]]:
    """Scores of each label, `[seeds, utterances]`, on the seeds that all of them finished (listed first)."""
    mine = results.finished[results.finished["label"].isin(list(labels))]
    seeds = [set(mine[mine["label"] == label]["seed"]) for label in labels]
    common = sorted(set.intersection(*seeds)) if seeds else []
    found = results.utterances[results.utterances["metric"] == metric]
    names = sorted(set(found["utterance"]))
    scores = {}
    for label in labels:
        wide = found[found["label"] == label].pivot_table(
            index="seed", columns="utterance", values="value", dropna=False
        )
        scores[label] = wide.reindex(index=common, columns=names).to_numpy(dtype=float)
    return [int(seed) for seed in common], scores


def pairwise(results: Results, metric: str, labels: Sequence[str]) -> pd.DataFrame:
    """All pairs of `labels`: the columns of `COLUMNS`, then seeds and utterances.

    `difference` is second less first; `p_holm` is corrected for all the pairs.
    """
    seeds, scores = scores_of(results, metric, labels)
    better = quality_column(metric).higher_is_better is not False
    rows = []
    for first, second in combinations(labels, 2):
        if not seeds:
            break
        try:
            found = paired_difference(scores[first], scores[second], higher_is_better=better)
        except ValueError:  # nothing that both have scored
            continue
        rows.append(
            (
                *(first, second, metric, found.mean, found.low, found.high, found.p_value, 1.0),
                *(found.improvement, found.seeds, found.utterances),
            )
        )
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "seeds", "utterances"])
    return frame.assign(p_holm=holm(frame["p_value"].tolist()))


def leaders(results: Results, metric: str, labels: Sequence[str]) -> tuple[str, set[str]] | None:
    """The best of `labels`, and those that can't be told from it at the 5 % level; None with one seed.

    One seed can't show whether another training would turn out the same, so it gives no leaders.
    """
    frame = pairwise(results, metric, labels)
    if len(labels) < 2 or frame.empty or frame["seeds"].min() < 2:
        return None
    means = results.finished.groupby("label")[f"eval/{metric}"].mean().reindex(list(labels)).dropna()
    if means.empty:
        return None
    best = str(means.idxmin() if quality_column(metric).higher_is_better is False else means.idxmax())
    with_best = frame[(frame["first"] == best) | (frame["second"] == best)]
    tied = with_best[with_best["p_holm"] > LEVEL]
    return best, (set(tied["first"]) | set(tied["second"])) - {best}


def bd_rates(results: Results, metric: str, anchor: str | None = None) -> pd.DataFrame:
    """BD-rate of each series against `anchor` (default: the first with several rates).

    Columns: series, anchor, metric, bd_rate, low, high (percent).
    """
    finished = results.finished[results.finished["rate/bitrate"] > 0]
    named = finished.assign(series=[series(label) for label in finished["label"]])
    curves = {}
    for name, group in named.groupby("series", sort=False):
        rates = group.groupby("label")["rate/bitrate"].mean().sort_values()
        if len(rates) > 1:
            seeds, scores = scores_of(results, metric, [str(label) for label in rates.index])
            if seeds:
                curves[str(name)] = Curve(rates.to_numpy(dtype=float), np.stack(list(scores.values())))
    anchor = anchor or next(iter(curves), None)
    rows = []
    for name, curve in curves.items():
        if anchor in curves and name != anchor:
            found = bd_rate_interval(curves[anchor], curve)
            rows.append((name, anchor, metric, found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=["series", "anchor", "metric", "bd_rate", "low", "high"])
