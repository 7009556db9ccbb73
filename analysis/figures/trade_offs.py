"""Quality against cost, and two systems against each other utterance by utterance."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.style import DOUBLE_COLUMN, SINGLE_COLUMN, appearance, legend_below, looks, shown
from analysis.results.columns import quality_column
from analysis.statistics.estimates import summary
from analysis.statistics.pareto import front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.results.study_results import Results

COSTS = {
    "cost/real_time_factor": "real-time factor (s/s)",
    "cost/parameters": "parameters (M)",
    "cost/train_seconds": "training time (s)",
}
NAMED = 3  # outliers with their names
NAME_LENGTH = 22  # letters
_COLUMNS = ("utterance", "difference")  # of `utterance_frame`, which no label can be called


def cost_frame(results: Results, metric: str) -> pd.DataFrame:
    """`estimates.summary` of one metric for the systems that spend bits, with the costs of each label.

    Each column of `COSTS` is a mean over trainings. The same name with ` low` and ` high` has the smallest
    and the largest value.
    """
    frame = summary(results, [metric])
    costs = results.finished[["label", *(name for name in COSTS if name in results.finished)]]
    if "cost/parameters" in costs:
        costs = costs.assign(**{"cost/parameters": costs["cost/parameters"] / 1e6})
    groups = costs.groupby("label", sort=False)
    spread = groups.min().add_suffix(" low").join(groups.max().add_suffix(" high"))
    return frame[frame["bitrate"] > 0].join(groups.mean().join(spread), on="label")


def cost_figure(frame: pd.DataFrame, scale: float = 1.0) -> Figure:
    """Draw one panel per cost of `cost_frame`.

    The line joins the systems that no other system beats in both (Pareto front), if the direction of the
    metric is known. Horizontal bars span the smallest to the largest training.
    """
    from matplotlib.figure import Figure

    costs = [name for name in COSTS if name in frame and frame[name].notna().any()]
    differ = [name for name in costs if np.ptp(frame[name]) > 0.01 * frame[name].abs().max()]
    costs = differ or costs[:1]  # a cost that all systems share says nothing
    column = quality_column(str(frame["metric"].iloc[0]))
    width = min(DOUBLE_COLUMN, SINGLE_COLUMN * len(costs)) * scale
    figure = Figure(figsize=(width, 2.6 * scale), layout="constrained")
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False).ravel()
    handles = {}
    look = looks(dict(zip(frame["label"], frame["quantizer"], strict=True)))
    mean = frame["mean"].to_numpy()
    bars = np.nan_to_num(np.abs(np.stack([mean - frame["low"], frame["high"] - mean])))
    for panel, cost in zip(panels, costs, strict=True):
        x = frame[cost].to_numpy(dtype=float)
        if column.higher_is_better is not None:
            ahead = np.flatnonzero(front(np.stack((x, mean), axis=1), (False, column.higher_is_better)))
            ahead = ahead[np.argsort(x[ahead], kind="stable")]
            panel.plot(x[ahead], mean[ahead], color="#999999", linewidth=0.8, zorder=1)
        for place, label in enumerate(frame["label"]):
            handles[label] = panel.errorbar(
                x[place],
                mean[place],
                xerr=_reach(frame.iloc[place], cost),
                yerr=bars[:, [place]],
                capsize=0,
                elinewidth=0.6 * scale,
                linestyle="",
                **look[label].points,
            )
        panel.set_xlabel(COSTS[cost])
        panel.margins(x=0.15)
        panel.locator_params(axis="x", nbins=4)
    panels[0].set_ylabel(column.title)
    legend_below(figure, handles, 2 if len(costs) == 1 else 5)
    return figure


def _reach(row: pd.Series, cost: str) -> list[list[float]]:
    """How far the least and the greatest training lie from the mean cost, as matplotlib takes it."""
    value = float(row[cost])
    ends = (value - float(row[f"{cost} low"]), float(row[f"{cost} high"]) - value)
    return [[max(end, 0.0)] for end in ends]  # a mean of equal values may round to one beyond them


def utterance_frame(results: Results, metric: str, first: str, second: str) -> pd.DataFrame:
    """Mean scores over seeds of each utterance: utterance, `first`, `second`, difference.

    difference: second minus first.
    """
    mine = results.utterances[
        (results.utterances["metric"] == metric) & results.utterances["label"].isin([first, second])
    ]
    wide = mine.pivot_table(index="utterance", columns="label", values="value", aggfunc="mean")
    wide = wide.reindex(columns=[first, second]).dropna()
    wide.columns.name = None
    difference = wide[second] - wide[first]
    wide.columns = [f"{label} (system)" if label in _COLUMNS else label for label in (first, second)]
    return wide.assign(difference=difference).reset_index()


def _short(utterance: str) -> str:
    """A name that fits beside a point: without folder and suffix, and without its middle where it is long."""
    name = PurePosixPath(utterance).stem
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH // 2]}…{name[-NAME_LENGTH // 2 + 1 :]}"


def utterance_figure(
    frame: pd.DataFrame, metric: str, quantizer: str = "", scale: float = 1.0, seeds: int | None = None
) -> Figure:
    """Draw each utterance of `utterance_frame` as a point, with the names of the largest differences.

    seeds: number of trainings of each system; with 1, the figure says that the variance between trainings is
    not covered.
    """
    from matplotlib.figure import Figure

    first, second = [name for name in frame.columns if name not in _COLUMNS]
    column = quality_column(metric)
    figure = Figure(figsize=(SINGLE_COLUMN * scale, SINGLE_COLUMN * scale), layout="constrained")
    panel = figure.subplots()
    x, y = frame[first].to_numpy(), frame[second].to_numpy()
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    pad = 0.08 * (high - low or 1.0)
    limits = (low - pad, high + pad)
    panel.plot(limits, limits, color="black", linestyle="--", linewidth=0.7)
    panel.scatter(x, y, s=8 * scale, color=appearance(second, quantizer)[0], alpha=0.7, linewidths=0)
    for place in frame["difference"].abs().nlargest(NAMED).index:
        above = y[place] > x[place]  # away from the diagonal and its crowd
        edge = above and x[place] < low + 0.2 * (high - low)
        panel.annotate(
            shown(_short(str(frame["utterance"][place]))),
            (x[place], y[place]),
            xytext=(0, 4) if edge else (-4, 2) if above else (4, -2),
            textcoords="offset points",
            ha="right" if above and not edge else "left",
            va="bottom" if edge else "center",
            fontsize="small",
        )
    lower = column.higher_is_better is False
    ahead = int(((frame["difference"] < 0) if lower else (frame["difference"] > 0)).sum())
    word = "higher" if column.higher_is_better is None else "better"
    panel.set_title(f"{column.header}: {shown(second)} {word} on {ahead} of {len(frame)} utterances")
    if seeds == 1:
        panel.text(
            0.97,
            0.03,
            "one training each: the variance\nbetween trainings is not covered",
            transform=panel.transAxes,
            ha="right",
            va="bottom",
            fontsize="small",
            style="italic",
        )
    panel.locator_params(nbins=6)
    panel.set(xlim=limits, ylim=limits, xlabel=shown(first), ylabel=shown(second), aspect="equal")
    return figure
