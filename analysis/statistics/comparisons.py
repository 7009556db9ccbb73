"""Comparisons of the systems of a study: pair by pair, by BD-rates, and by average ranks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.results.columns import quality_column
from analysis.results.labels import series
from analysis.results.placing import rates_by
from analysis.results.study_results import Results
from analysis.statistics.bjontegaard import Curve, bd_quality_interval, bd_rate_interval
from analysis.statistics.intervals import (
    average_ranks,
    critical_difference,
    holm,
    holm_levels,
    paired_difference,
)
from experiments.common.matched_rates import rate_groups

LEVEL = 0.05
COLUMNS = [
    *("first", "second", "metric", "difference", "low", "high", "p_value", "p_holm", "holm_low", "holm_high"),
    *("improvement", "seeds", "utterances"),
]


def scores_of(
    results: Results, metric: str, labels: Sequence[str]
) -> tuple[list[int], dict[str, np.ndarray]]:
    """Scores of each label, `[seeds, utterances]`, on the seeds that all of them finished (listed first)."""
    finished = results.finished
    runs: dict[tuple[str, int], list[str]] = {}
    for label, seed, run_id in zip(finished["label"], finished["seed"], finished["run_id"], strict=True):
        runs.setdefault((label, int(seed)), []).append(run_id)
    seeds = [{seed for other, seed in runs if other == label} for label in labels]
    common = sorted(set.intersection(*seeds)) if seeds else []
    scores = {
        label: np.stack([results.mean_scores(metric, runs[label, seed]) for seed in common])
        for label in (labels if common else ())
    }
    return common, scores


def pairwise(results: Results, metric: str, labels: Sequence[str]) -> pd.DataFrame:
    """Compare all pairs of `labels`, one row per pair, with the columns of `COLUMNS`.

    `difference` is second minus first; `low` to `high` is its own 95 % interval. `p_holm` is corrected for
    all pairs. The interval from `holm_low` to `holm_high` excludes 0 where `p_holm` is at most 5 %. The
    frame is empty for a metric whose direction is not known.
    """
    seeds, scores = scores_of(results, metric, labels)
    better = quality_column(metric).higher_is_better
    rows, spreads = [], []
    for first, second in combinations(labels, 2):
        if not seeds or better is None:
            break
        try:
            pair = paired_difference(scores[first], scores[second], higher_is_better=better)
        except ValueError:  # nothing that both have scored
            continue
        spreads.append(pair.spread)
        of_all = (1.0, pair.low, pair.high)  # corrected below
        rows.append(
            (
                *(first, second, metric, pair.mean, pair.low, pair.high, pair.p_value, *of_all),
                *(pair.improvement, pair.seeds, pair.utterances),
            )
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    p_values = frame["p_value"].tolist()
    levels = holm_levels(p_values, LEVEL)
    half = np.array([float(one.half_width(level)) for one, level in zip(spreads, levels, strict=True)])
    mean = frame["difference"]
    return frame.assign(p_holm=holm(p_values), holm_low=mean - half, holm_high=mean + half)


def means_of(results: Results, metric: str, labels: Sequence[str]) -> dict[str, float]:
    """Mean of the finished seeds of each label, NaN where no seed was scored, in the order of `labels`."""
    finished = results.finished.reindex(columns=["label", f"eval/{metric}"])
    means = finished.groupby("label")[f"eval/{metric}"].mean().reindex(list(labels))
    return dict(zip(map(str, means.index), map(float, means), strict=True))


def bd_rates(results: Results, metric: str, anchor: str | None = None) -> pd.DataFrame:
    """BD-rate and BD-quality of each series against `anchor` (default: the first with several rates).

    Columns: series, anchor, metric, bd_rate, low, high (percent), bd_quality, quality_low, quality_high (in
    the unit and with the sign of the metric, so a negative value is better for a distance). The 95 %
    intervals are simultaneous for all series (Bonferroni), because readers look for the largest saving.
    """
    finished = results.finished[results.finished["rate/bitrate"] > 0]
    curves = {}
    for name, group in finished.groupby("series", sort=False):
        rates = rates_by(group, "label").sort_values()
        if len(rates) > 1:
            seeds, scores = scores_of(results, metric, [str(label) for label in rates.index])
            if seeds:
                curves[str(name)] = Curve(rates.to_numpy(dtype=float), np.stack(list(scores.values())))
    anchor = anchor or next(iter(curves), None)
    confidence = 1 - LEVEL / max(len(curves) - 1, 1)
    rows = []
    for name, curve in curves.items():
        if anchor in curves and name != anchor:
            saving = bd_rate_interval(curves[anchor], curve, confidence=confidence)
            gain = bd_quality_interval(curves[anchor], curve, confidence=confidence)
            ends = (saving.mean, saving.low, saving.high, gain.mean, gain.low, gain.high)
            rows.append((name, anchor, metric, *ends))
    measures = ["bd_rate", "low", "high", "bd_quality", "quality_low", "quality_high"]
    return pd.DataFrame(rows, columns=["series", "anchor", "metric", *measures])


def ranks_across(results: Results, metric: str) -> pd.DataFrame:
    """Average ranks of the series over every corpus, rate and seed that all of them finished.

    A block is one training of each series on one corpus at one rate, ranked by the mean score. Trainings are
    the blocks and not utterances, because the utterances are shared and so not independent.
    Columns: label (the series), metric, rank, critical (critical difference of Nemenyi), blocks, corpora,
    rates, seeds. The frame is empty with fewer than two series or blocks, and for a metric whose direction
    is not known.
    """
    columns = ["label", "metric", "rank", "critical", "blocks", "corpora", "rates", "seeds"]
    finished = results.finished[results.finished["rate/bitrate"] > 0]
    better = quality_column(metric).higher_is_better
    if f"eval/{metric}" not in finished or better is None:
        return pd.DataFrame(columns=columns)
    pairs = zip(finished["series"], finished["corpus"], strict=True)
    names = [_without_corpus(name, corpus) for name, corpus in pairs]
    finished = finished.assign(series=names)
    cells = {}  # (corpus, number of the rate) -> series x seeds
    for corpus, runs in finished.groupby(["corpus_hash", "protocol"], sort=True):
        rates = rates_by(runs, "label")
        groups = rate_groups({str(label): float(rate) for label, rate in rates.items()})
        for number, group in enumerate(groups):
            members = runs[runs["label"].isin(group)]
            cells[corpus, number] = members.pivot_table(
                index="seed", columns="series", values=f"eval/{metric}"
            )
    names = list(max(cells.values(), key=lambda cell: cell.shape[1]).columns) if cells else []
    whole = {key: cell[names].dropna() for key, cell in cells.items() if set(names) <= set(cell.columns)}
    whole = {key: cell for key, cell in whole.items() if len(cell)}
    table = np.concatenate([cell.to_numpy() for cell in whole.values()]) if whole else np.empty((0, 0))
    if len(names) < 2 or len(table) < 2:
        return pd.DataFrame(columns=columns)
    ranks = average_ranks(table, higher_is_better=better)
    return pd.DataFrame(
        {
            "label": names,
            "metric": metric,
            "rank": ranks,
            "critical": critical_difference(len(names), len(table)),
            "blocks": len(table),
            "corpora": len({corpus for corpus, _ in whole}),
            "rates": max(sum(corpus == other for other, _ in whole) for corpus, _ in whole),
            "seeds": max(len(cell) for cell in whole.values()),
        }
    ).sort_values("rank", kind="stable", ignore_index=True)


def _without_corpus(name: str, corpus: str) -> str:
    """A series without the name of its corpus: what stays the same on every corpus."""
    if not corpus or not name.endswith(corpus):
        return name
    return series(name.removesuffix(corpus).rstrip(" ,;:/@(-")) or name
