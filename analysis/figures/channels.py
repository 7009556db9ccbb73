"""Quality against the number of channels that a grid or lattice gives its features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures.style import DOUBLE_COLUMN, SINGLE_COLUMN, legend_below, looks
from analysis.results.columns import quality_column
from analysis.results.logged_options import built
from analysis.results.study_results import records
from analysis.statistics.estimates import summary
from experiments.common.matched_rates import rate_groups
from quantizers.parts.channels import ChannelQuantizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.results.study_results import Results

_FEWEST = 3  # numbers of channels at one rate, below which there is nothing to follow
_MOST_PANELS = 3


def channel_frame(results: Results) -> pd.DataFrame:
    """`estimates.summary` of the rows that have channels, at rates with three or more numbers of them.

    Further columns: `channels` (mean over seeds, which may differ where they fit the features) and `rate`
    (bit/s, the mean of all that spend the same bits).
    """
    runs = results.finished
    counts = runs.assign(channels=[_channels(run) for run in records(runs)]).groupby("label")["channels"]
    frame = summary(results).join(counts.mean(), on="label")
    frame = frame[frame["channels"].notna() & (frame["bitrate"] > 0)]
    rates = frame.groupby("label")["bitrate"].mean()
    of_label: dict[str, float] = {}
    for group in rate_groups({str(label): float(rate) for label, rate in rates.items()}):
        if len(set(frame.loc[frame["label"].isin(group), "channels"])) >= _FEWEST:
            of_label |= dict.fromkeys(group, float(rates[group].mean()))
    frame = frame.assign(rate=frame["label"].map(of_label).astype(float))
    return frame[frame["rate"].notna()].reset_index(drop=True)


def _channels(run: Mapping[str, Any]) -> float:
    """The number of channels of a run's quantizer; NaN where it has none of its own."""
    quantizer = built(run)
    return quantizer.project_in.out_features if isinstance(quantizer, ChannelQuantizer) else float("nan")


def channel_figure(frame: pd.DataFrame, scale: float = 1.0) -> Figure:
    """Draw a panel per metric of `channel_frame`; a line joins the rows of one rate in order of channels."""
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(frame["metric"]))[:_MOST_PANELS]
    width = min(DOUBLE_COLUMN, SINGLE_COLUMN * len(metrics)) * scale
    figure = Figure(figsize=(width, 3.0 * scale), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False).ravel()
    handles = {}
    look = looks(dict(zip(frame["series"].astype(str), frame["quantizer"], strict=True)))
    for panel, metric in zip(panels, metrics, strict=True):
        column = quality_column(str(metric))
        for rate, curve in frame[frame["metric"] == metric].groupby("rate"):
            curve = curve.sort_values(["channels", "mean"])
            x, mean = curve["channels"].to_numpy(dtype=float), curve["mean"].to_numpy()
            panel.plot(x, mean, color="#BBBBBB", linewidth=0.8, zorder=1)
            bars = np.nan_to_num(np.abs(np.stack([mean - curve["low"], curve["high"] - mean])))
            for place, series in enumerate(curve["series"].astype(str)):
                handles[series] = panel.errorbar(
                    x[place],
                    mean[place],
                    yerr=bars[:, [place]],
                    capsize=0,
                    elinewidth=0.6 * scale,
                    linestyle="",
                    **look[series].points,
                )
            panel.annotate(
                f"{rate / 1e3:.2f} kbit/s",
                (x[-1], mean[-1]),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
            )
        panel.set_xlabel("channels")
        panel.set_ylabel(column.title)
        panel.set_xscale("log", base=2)  # few channels lie close together, and matter most
        fewest, most = float(frame["channels"].min()), float(frame["channels"].max())
        panel.set_xlim(fewest / 1.2, most * (most / fewest) ** 0.45)  # room for the rates beside the curves
        panel.xaxis.set_major_formatter("{x:g}")
    legend_below(figure, dict(sorted(handles.items())), 5)
    return figure
