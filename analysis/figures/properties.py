"""Quality against what sets the rows of one rate apart: number of channels, noise of the features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

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

_FEWEST = 3  # values at one rate, below which there is nothing to follow
_MOST_PANELS = 3


class Property(NamedTuple):
    """A number that a run has beside its rate.

    column: its name in a frame. title: of its axis, with the unit. of: its value in a run of `Results.runs`,
    in that unit, NaN for none.
    """

    column: str
    title: str
    of: Callable[[Mapping[str, Any]], float]
    logarithmic: bool = False


def _channels(run: Mapping[str, Any]) -> float:
    """The number of channels of a run's quantizer; NaN where it has none of its own."""
    quantizer = built(run)
    return quantizer.project_in.out_features if isinstance(quantizer, ChannelQuantizer) else float("nan")


def _signal_to_noise(run: Mapping[str, Any]) -> float:
    """Of the quantized features, in dB; NaN where the encoder was trained: its features are its own."""
    frozen = '"encoder"' in str(run.get("param/train.freeze"))  # of a list in JSON
    steps = run.get("param/train.freeze_steps")
    always = bool(pd.isna(steps)) or steps == "null"
    return float(run.get("usage/signal_to_noise", float("nan"))) if frozen and always else float("nan")


# Few channels lie close together, and matter most.
CHANNELS = Property("channels", "channels", _channels, logarithmic=True)
SIGNAL_TO_NOISE = Property("signal_to_noise", "SNR of the features (dB)", _signal_to_noise)


def property_frame(results: Results, known: Property) -> pd.DataFrame:
    """`estimates.summary` of the rows that have the property, at rates with three or more values of it.

    Further columns: the property's (mean over seeds) and `rate` (bit/s, the mean of all that spend the same
    bits).
    """
    runs = results.finished
    values = runs.assign(value=[known.of(run) for run in records(runs)]).groupby("label")["value"].mean()
    frame = summary(results).join(values.rename(known.column), on="label")
    frame = frame[frame[known.column].notna() & (frame["bitrate"] > 0)]
    rates = frame.groupby("label")["bitrate"].mean()
    of_label: dict[str, float] = {}
    for group in rate_groups({str(label): float(rate) for label, rate in rates.items()}):
        if len(set(frame.loc[frame["label"].isin(group), known.column])) >= _FEWEST:
            of_label |= dict.fromkeys(group, float(rates[group].mean()))
    frame = frame.assign(rate=frame["label"].map(of_label).astype(float))
    return frame[frame["rate"].notna()].reset_index(drop=True)


def property_figure(frame: pd.DataFrame, known: Property, scale: float = 1.0) -> Figure:
    """Draw a panel per metric of `property_frame`; a line joins the rows of one rate."""
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
            curve = curve.sort_values([known.column, "mean"])
            x, mean = curve[known.column].to_numpy(dtype=float), curve["mean"].to_numpy()
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
        panel.set_xlabel(known.title)
        panel.set_ylabel(column.title)
        least, most = float(frame[known.column].min()), float(frame[known.column].max())
        if known.logarithmic:
            panel.set_xscale("log", base=2)
            panel.set_xlim(least / 1.2, most * (most / least) ** 0.45)  # room for the rates beside the curves
            panel.xaxis.set_major_formatter("{x:g}")
        else:
            panel.set_xlim(least - 0.05 * (most - least), most + 0.35 * (most - least))
    legend_below(figure, dict(sorted(handles.items())), 5)
    return figure
