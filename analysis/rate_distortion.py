"""Quality against bitrate, and Bjontegaard differences between curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.estimates import quality_column
from analysis.style import DOUBLE_COLUMN, SINGLE_COLUMN, appearance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def has_curves(frame: pd.DataFrame) -> bool:
    """Whether some series of `estimates.summary` was measured at two rates or more."""
    coded = frame[frame["bitrate"] > 0]
    return bool((coded.groupby("series")["bitrate"].nunique() > 1).any())


def rate_distortion_figure(
    frame: pd.DataFrame, *, legend: dict[str, str] | None = None, scale: float = 1.0
) -> Figure:
    """Curves of each metric over bitrate with 95 % bars; the unquantized ceiling is a line.

    Curves are moved sideways by half a percent of the axis so that their bars can be told apart.

    Args:
        frame: from `estimates.summary`.
        legend: text after a series' name, such as its BD-rate.
        scale: factor on the size in inches.
    """
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(frame["metric"]))
    columns = min(len(metrics), 2)
    rows = -(-len(metrics) // columns)
    width = DOUBLE_COLUMN * scale * (0.55 if columns == 1 else 1)
    figure = Figure(figsize=(width, (2.3 * rows + 0.4) * scale), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    handles = {}
    for place, metric in enumerate(metrics):
        mine = frame[frame["metric"] == metric]
        coded = mine[mine["bitrate"] > 0]
        dodge = (
            0.006 * float(np.ptp(coded["bitrate"])) / 1e3
        )  # so that bars at one rate don't hide each other
        middle = (coded["series"].nunique() - 1) / 2
        for turn, (name, curve) in enumerate(coded.groupby("series", sort=False)):
            curve = curve.sort_values("bitrate")
            colour, marker = appearance(str(name), str(curve["quantizer"].iloc[0]))
            mean = curve["mean"].to_numpy()
            bars = np.abs(np.stack([mean - curve["low"], curve["high"] - mean]))
            drawn = axes[place].errorbar(
                curve["bitrate"] / 1e3 + (turn - middle) * dodge,
                mean,
                yerr=np.nan_to_num(bars),
                color=colour,
                marker=marker,
                capsize=2,
            )
            handles[f"{name}{(legend or {}).get(str(name), '')}"] = drawn
        for ceiling in mine[~(mine["bitrate"] > 0)]["mean"]:
            line = axes[place].axhline(ceiling, color="black", linestyle="--", linewidth=0.8, zorder=1)
            handles["unquantized"] = line
        column = quality_column(metric)
        unit = f" ({column.unit})" if column.unit else ""
        axes[place].set(xlabel="bitrate (kbit/s)", ylabel=f"{column.header} {column.arrow}{unit}")
        axes[place].locator_params(axis="x", nbins=6)
    for empty in axes[len(metrics) :]:
        empty.set_axis_off()
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(len(handles), 5 if columns == 2 else 3),
    )
    return figure


def bd_text(gain: Mapping[str, Any]) -> str:
    """`, BD-rate -7 % [-12, -2]`, as a legend shows a row of `comparisons.bd_rates`."""
    if not np.isfinite(gain["bd_rate"]):
        return ""
    ends = f" [{gain['low']:+.0f}, {gain['high']:+.0f}]" if np.isfinite(gain["low"]) else ""
    return f"\nBD-rate {gain['bd_rate']:+.0f} %{ends}"


def bd_figure(frame: pd.DataFrame, scale: float = 1.0) -> Figure:
    """BD-rates of `comparisons.bd_rates` with their intervals, one row a metric and series."""
    from matplotlib.figure import Figure

    known = frame[np.isfinite(frame["bd_rate"])].iloc[::-1]
    figure = Figure(
        figsize=(SINGLE_COLUMN * scale, (0.6 + 0.17 * max(len(known), 3)) * scale), layout="constrained"
    )
    panel = figure.subplots()
    for place, (name, value, low, high) in enumerate(
        zip(known["series"], known["bd_rate"], known["low"], known["high"], strict=True)
    ):
        colour, marker = appearance(str(name))
        bars = np.nan_to_num(np.abs([[value - low], [high - value]]))
        panel.errorbar(value, place, xerr=bars, color=colour, marker=marker, capsize=2)
    panel.axvline(0, color="black", linewidth=0.7)
    headers = [quality_column(metric).header for metric in known["metric"]]
    names = [f"{name}, {header}" for name, header in zip(known["series"], headers, strict=True)]
    panel.set_yticks(range(len(known)), names)
    panel.set_xlabel(f"BD-rate against {frame['anchor'].iloc[0]} (%); less is better")
    return figure
