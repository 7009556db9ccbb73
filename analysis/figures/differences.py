"""Figures of paired comparisons: differences to the best system, and average ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.style import DOUBLE_COLUMN, SINGLE_COLUMN, appearance, shown
from analysis.results.columns import quality_column
from analysis.results.study_metrics import logged_metrics
from analysis.statistics.best import best_of
from analysis.statistics.comparisons import LEVEL, means_of, pairwise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.results.study_results import Results


def differences_to_best(
    results: Results, labels: Sequence[str], metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """Each label less the best one: label, best, metric, difference, low, high, p_holm, seeds, utterances."""
    rows = []
    for metric in metrics or logged_metrics(results):
        if len(labels) < 2:
            break
        frame = pairwise(results, metric, labels)
        best = best_of(means_of(results, metric, labels), quality_column(metric).higher_is_better)
        if frame.empty or best is None:
            continue
        for pair in frame.to_dict("records"):
            if best not in (pair["first"], pair["second"]):
                continue
            turned = pair["second"] == best
            sign = -1 if turned else 1
            ends = sorted((sign * pair["low"], sign * pair["high"]))
            label = pair["first"] if turned else pair["second"]
            shown = (label, best, metric, sign * pair["difference"], *ends)
            rows.append((*shown, pair["p_holm"], pair["seeds"], pair["utterances"]))
    names = ["label", "best", "metric", "difference", "low", "high", "p_holm", "seeds", "utterances"]
    return pd.DataFrame(rows, columns=names)


def difference_figure(
    frame: pd.DataFrame, quantizers: dict[str, str] | None = None, scale: float = 1.0
) -> Figure:
    """Forest plot of `differences_to_best`; open markers can't be told from the best (Holm, 5 %)."""
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(frame["metric"]))
    columns = min(len(metrics), 2)
    rows = -(-len(metrics) // columns)
    most = int(frame.groupby("metric").size().max())
    height = (rows * (0.75 + 0.17 * most) + 0.25) * scale
    width = (DOUBLE_COLUMN if columns == 2 else SINGLE_COLUMN) * scale
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, metric in zip(panels, metrics, strict=False):
        mine = frame[frame["metric"] == metric].iloc[::-1].reset_index(drop=True)
        for place, (label, value, low, high, p_value) in enumerate(
            zip(mine["label"], mine["difference"], mine["low"], mine["high"], mine["p_holm"], strict=True)
        ):
            colour, marker = appearance(label, (quantizers or {}).get(label, ""))
            panel.errorbar(
                value,
                place,
                xerr=[[value - low], [high - value]],
                color=colour,
                marker=marker,
                markerfacecolor="white" if p_value > LEVEL else colour,
                capsize=2,
            )
        panel.axvline(0, color="black", linewidth=0.7)
        panel.set_yticks(range(len(mine)), [shown(label) for label in mine["label"]])
        panel.set_ylim(-0.6, len(mine) - 0.4)
        panel.locator_params(axis="x", nbins=6)
        column = quality_column(metric)
        unit = f" ({column.unit})" if column.unit else ""
        panel.set_xlabel(f"{column.header} {column.arrow}{unit}\nless that of {shown(mine['best'].iloc[0])}")
    for empty in panels[len(metrics) :]:
        empty.set_axis_off()
    over = "seeds and utterances" if int(frame["seeds"].min()) > 1 else "utterances only (one seed)"
    figure.supxlabel(
        f"bars: 95 % over {over}; open: can't be told from the best (Holm, 5 %)", fontsize="small"
    )
    return figure


def ranking_figure(
    frame: pd.DataFrame, quantizers: dict[str, str] | None = None, scale: float = 1.0
) -> Figure:
    """Average ranks of `comparisons.ranks_across`, best at the top; bars join ranks closer than the critical
    difference."""
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
