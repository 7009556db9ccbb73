"""Figures of paired comparisons: differences to the best system, and average ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.style import DOUBLE_COLUMN, SINGLE_COLUMN, appearance, shown
from analysis.results.columns import quality_column
from analysis.results.study_metrics import logged_metrics
from analysis.results.study_results import records
from analysis.statistics.best import best_of
from analysis.statistics.comparisons import LEVEL, means_of, pairwise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.results.study_results import Results


def differences_to_best(
    results: Results, labels: Sequence[str], metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """Difference of each label to the best, one row per label and metric.

    Columns: label, best, metric, difference, low, high, p_holm, seeds, utterances.
    difference: the label minus the best. low, high: interval that is corrected for all pairs (Holm). The row
    of the best system has no interval.
    """
    rows = []
    for metric in metrics or logged_metrics(results):
        frame = pairwise(results, metric, labels) if len(labels) > 1 else pd.DataFrame()
        best = best_of(means_of(results, metric, labels), quality_column(metric).higher_is_better)
        if frame.empty or best is None:
            continue
        pairs = {}
        for pair in records(frame[(frame["first"] == best) | (frame["second"] == best)]):
            sign, label = (-1, pair["first"]) if pair["second"] == best else (1, pair["second"])
            ends = sorted((sign * pair["holm_low"], sign * pair["holm_high"]))
            pairs[label] = (
                sign * pair["difference"],
                *ends,
                pair["p_holm"],
                pair["seeds"],
                pair["utterances"],
            )
        nothing = float("nan")
        pairs[best] = (0.0, nothing, nothing, nothing, frame["seeds"].max(), frame["utterances"].max())
        rows += [(label, best, metric, *pairs[label]) for label in labels if label in pairs]
    names = ["label", "best", "metric", "difference", "low", "high", "p_holm", "seeds", "utterances"]
    return pd.DataFrame(rows, columns=names)


def difference_figure(
    frame: pd.DataFrame, quantizers: dict[str, str] | None = None, scale: float = 1.0
) -> Figure:
    """Draw a forest plot of `differences_to_best`: one panel per metric, one line per system.

    A marker is filled if the interval excludes 0. The best system is at 0 without an interval. With one seed
    no marker is filled, because the variance between trainings is not known.
    """
    from matplotlib.figure import Figure

    several = int(frame["seeds"].min()) > 1
    metrics = list(dict.fromkeys(frame["metric"]))
    bests = frame.drop_duplicates("metric").set_index("metric")["best"]
    labels = list(dict.fromkeys(frame["label"]))
    columns = len(metrics) if len(metrics) <= 3 else 2
    rows = -(-len(metrics) // columns)
    height = (rows * (0.65 + 0.17 * len(labels)) + 0.25) * scale
    width = (DOUBLE_COLUMN if columns > 1 else SINGLE_COLUMN) * scale
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for panel, metric in zip(panels, metrics, strict=False):
        for row in records(frame[frame["metric"] == metric]):
            colour, marker = appearance(row["label"], (quantizers or {}).get(row["label"], ""))
            place = -labels.index(row["label"])
            if row["label"] == row["best"]:
                panel.plot(0, place, color=colour, marker=marker)
                continue
            panel.errorbar(
                row["difference"],
                place,
                xerr=[[row["difference"] - row["low"]], [row["high"] - row["difference"]]],
                color=colour,
                marker=marker,
                markerfacecolor=colour if several and row["p_holm"] <= LEVEL else "white",
                capsize=2,
            )
        panel.axvline(0, color="black", linewidth=0.7, zorder=0)
        panel.locator_params(axis="x", nbins=4)
        column = quality_column(metric)
        panel.set_xlabel(f"{column.title}\nminus {shown(bests[metric])}")
    panels[0].set_yticks([-place for place in range(len(labels))], [shown(label) for label in labels])
    panels[0].set_ylim(0.4 - len(labels), 0.6)
    for empty in panels[len(metrics) :]:
        empty.set_axis_off()
    over = "seeds and utterances" if several else "utterances"
    end = "filled: differs from the best" if several else "one seed: other trainings may differ otherwise"
    figure.supxlabel(
        f"bars: 95 % intervals over {over}, corrected for all pairs (Holm); {end}", fontsize="small"
    )
    return figure


def ranking_figure(
    frame: pd.DataFrame, quantizers: dict[str, str] | None = None, scale: float = 1.0
) -> Figure:
    """Draw the average ranks of `comparisons.ranks_across`, with the best at the top.

    Bars join ranks that differ by less than the critical difference.
    """
    from matplotlib.figure import Figure

    count, critical = len(frame), float(frame["critical"].iloc[0])
    ranks = frame["rank"].to_numpy()
    groups = _groups(ranks, critical)
    figure = Figure(
        figsize=(SINGLE_COLUMN * scale, (0.75 + 0.17 * (count + 0.6 * len(groups))) * scale),
        layout="constrained",
    )
    panel = figure.subplots()
    for place, label in enumerate(frame["label"]):
        colour, marker = appearance(label, (quantizers or {}).get(label, ""))
        panel.plot(ranks[place], -place, color=colour, marker=marker)
    for number, (first, last) in enumerate(groups):
        height = -count - 0.6 * number
        panel.plot([ranks[first], ranks[last]], [height, height], color="black", linewidth=2.5 * scale)
    panel.set_yticks([-place for place in range(count)], [shown(label) for label in frame["label"]])
    panel.set(xlim=(0.8, count + 0.2), ylim=(-count - 0.6 * len(groups), 0.6))
    column = quality_column(str(frame["metric"].iloc[0]))
    numbers = {name: int(frame[name].iloc[0]) for name in ("blocks", "rates", "seeds", "corpora")}
    over = f"{numbers['blocks']} trainings ({numbers['rates']} rates, {numbers['seeds']} seeds"
    over += f", {numbers['corpora']} corpora)" if numbers["corpora"] > 1 else ")"
    figure.supxlabel(
        f"average rank by {column.header} over {over} (1 is best)\n"
        f"bars: closer than the critical difference {critical:.2f}",
        fontsize="medium",
    )
    return figure


def _groups(ranks: np.ndarray, critical: float) -> list[tuple[int, int]]:
    """Longest runs of sorted ranks that span less than the critical difference."""
    groups: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = int(np.searchsorted(ranks, ranks[first] + critical, side="right")) - 1
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups
