"""Figures of a search: the trials that no other beats, and the best so far of each sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.style import DOUBLE_COLUMN, SINGLE_COLUMN
from analysis.statistics.pareto import front
from experiments.tracking.schema import FINISHED, PRUNED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"tpe": "#D55E00", "random": "#0072B2"}


def best_frame(trials: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """The Pareto set of all trials, each bottleneck once, and who found it; best quality first."""
    finished = trials[trials["status"] == FINISHED]
    best = finished[front(finished[list(objectives)].to_numpy(dtype=float))]
    by = best.groupby("run_hash", sort=False)
    found = by["sampler"].agg(lambda names: ", ".join(sorted(set(names))))
    return by.first().assign(sampler=found).sort_values(list(objectives)).reset_index()


def progress_frame(trials: pd.DataFrame, objective: str) -> pd.DataFrame:
    """sampler, seed, trial, `spent`: training steps up to the end of the trial, `best`: the smallest
    objective so far (NaN before the first finished trial)."""
    parts = []
    for _, part in trials.groupby(["sampler", "seed"], sort=False):
        part = part.sort_values("trial")
        best = part[objective].where(part["status"] == FINISHED).cummin().ffill()
        parts.append(part[["sampler", "seed", "trial"]].assign(spent=part["steps"].cumsum(), best=best))
    return pd.concat(parts, ignore_index=True)


def progress_figure(frame: pd.DataFrame, objective: str, scale: float = 1.0) -> Figure:
    """The best so far of each sampler over the training steps spent: seeds thin, their mean thick."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SINGLE_COLUMN * scale, 2.4 * scale), layout="constrained")
    panel = figure.subplots()
    for sampler, part in frame.groupby("sampler", sort=False):
        colour = COLOURS.get(str(sampler), "#7F7F7F")
        places = np.unique(part["spent"])
        curves = []
        for _, one in part.groupby("seed"):
            reached = np.searchsorted(one["spent"], places, side="right") - 1
            curve = np.where(reached >= 0, one["best"].to_numpy()[np.maximum(reached, 0)], np.nan)
            curves.append(curve)
            if part["seed"].nunique() > 1:
                panel.step(places, curve, where="post", color=colour, linewidth=0.6, alpha=0.6)
        mean = np.mean(curves, axis=0)  # NaN until every seed has one
        panel.step(places, mean, where="post", color=colour, linewidth=1.6, label=f"{sampler}")
    panel.set(xlabel="training steps spent", ylabel=f"best {objective} so far")
    panel.legend()
    return figure


def trials_figure(trials: pd.DataFrame, objectives: Sequence[str], scale: float = 1.0) -> Figure:
    """Every finished trial, the first objective against each other one; the line joins the Pareto set."""
    from matplotlib.figure import Figure

    finished = trials[trials["status"] == FINISHED]
    quality, *costs = objectives
    width = min(DOUBLE_COLUMN, SINGLE_COLUMN * max(1, len(costs))) * scale
    figure = Figure(figsize=(width, 2.8 * scale), layout="constrained")
    panels = figure.subplots(1, max(1, len(costs)), sharey=True, squeeze=False).ravel()
    for panel, cost in zip(panels, costs or ["bits"], strict=True):
        for sampler, part in finished.groupby("sampler", sort=False):
            colour = COLOURS.get(str(sampler), "#7F7F7F")
            marker = "o" if sampler == "random" else "^"
            panel.scatter(
                part[cost], part[quality], s=10, color=colour, marker=marker, alpha=0.7, label=sampler
            )
        if costs:
            both = finished[[cost, quality]].to_numpy(dtype=float)
            line = finished[front(both)].sort_values([cost, quality])
            panel.plot(line[cost], line[quality], color="#555555", linewidth=0.8, label="Pareto set")
        panel.set_xlabel(cost)
    panels[0].set_ylabel(quality)
    panels[0].legend()
    return figure


def caption(trials: pd.DataFrame) -> str:
    """How much was tried."""
    counts = trials.groupby("sampler", sort=False).agg(
        tried=("trial", "size"),
        pruned=("status", lambda s: int((s == PRUNED).sum())),
        different=("run_hash", "nunique"),
        steps=("steps", "sum"),
        seeds=("seed", "nunique"),
    )
    return "; ".join(
        f"{name}: {row.tried} trials of {row.different} bottlenecks in {row.steps} training steps over "
        f"{row.seeds} seeds, {row.pruned} of them given up early"
        for name, row in zip(counts.index, counts.itertuples(index=False), strict=True)
    )
