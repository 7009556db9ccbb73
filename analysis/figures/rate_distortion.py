"""Quality against bitrate, and Bjontegaard differences between curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures.style import DOUBLE_COLUMN, SINGLE_COLUMN, appearance, legend_below, looks, shown
from analysis.results.columns import quality_column
from analysis.results.study_results import records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOGARITHMIC_FROM = 4.0  # greatest over least bitrate from which the axis is logarithmic
GREYS = ("#444444", "#7A7A7A", "#A0A0A0", "#5F6B73")  # of references
MARKERS = ("s", "^", "D", "o", "v", "P")
# Ratios of bitrates, ticks of a BD-rate: coarse where the axis is long, fine where it is short.
_RATIOS = (
    (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16),
    (0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4),
    (0.9, 0.95, 0.98, 0.99, 1, 1.01, 1.02, 1.05, 1.1),
)
_FEWEST_TICKS = 4


def has_curves(frame: pd.DataFrame) -> bool:
    """Whether some series of `estimates.summary` was measured at two rates or more."""
    coded = frame[frame["bitrate"] > 0]
    return bool((coded.groupby("series")["bitrate"].nunique() > 1).any())


def rate_distortion_figure(frame: pd.DataFrame, scale: float = 1.0, rate: str = "bitrate") -> Figure:
    """Draw the curves of each metric over bitrate with 95 % bars.

    Systems without bits are a horizontal line, or a note at the edge where a line would compress the curves.
    Quantizers are in colour, references in grey.

    frame: from `estimates.summary`. scale: factor on the size in inches. rate: name of the frame's bitrate.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    metrics = list(dict.fromkeys(frame["metric"]))
    columns = len(metrics) if len(metrics) <= 3 else 2
    rows = -(-len(metrics) // columns)
    width = DOUBLE_COLUMN * scale * (0.55 if columns == 1 else 1)
    figure = Figure(figsize=(width, (2.3 * rows + 0.4) * scale), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    handles = {}
    for place, metric in enumerate(metrics):
        mine = frame[frame["metric"] == metric]
        coded = mine[mine["bitrate"] > 0]
        for name, curve in coded.groupby("series", sort=False):
            curve = curve.sort_values("bitrate")
            mean = curve["mean"].to_numpy()
            bars = np.abs(np.stack([mean - curve["low"], curve["high"] - mean]))
            drawn = axes[place].errorbar(
                curve["bitrate"] / 1e3,
                mean,
                yerr=np.nan_to_num(bars),
                capsize=0,
                elinewidth=0.6 * scale,
                **_looks(frame, curve),
            )
            handles[str(name)] = drawn
        if _spread(coded) > LOGARITHMIC_FROM:
            axes[place].set_xscale("log")
            axes[place].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes[place].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes[place].xaxis.set_minor_formatter(NullFormatter())
        else:
            axes[place].locator_params(axis="x", nbins=6)
        beyond = []
        for ceiling in mine[~(mine["bitrate"] > 0)].itertuples():
            name, colour, dashes = "unquantized", "black", "--"
            if ceiling.reference:
                turn = _turn(frame, str(ceiling.series))
                name, colour, dashes = str(ceiling.label), GREYS[turn % len(GREYS)], "-."
            if _far(float(ceiling.mean), coded):
                beyond.append((float(ceiling.mean), name, colour))
                continue
            line = axes[place].axhline(ceiling.mean, color=colour, linestyle=dashes, linewidth=0.8, zorder=1)
            handles[name] = line
        _name_beyond(axes[place], beyond, quality_column(metric).digits)
        column = quality_column(metric)
        axes[place].set(xlabel=f"{rate} (kbit/s)", ylabel=column.title)
    for empty in axes[len(metrics) :]:
        empty.set_axis_off()
    legend_below(figure, handles, 6 if columns > 1 else 3)
    return figure


def _far(value: float, coded: pd.DataFrame) -> bool:
    """Whether a line at `value` would press the curves together: it is off by more than half their height."""
    ends = coded[["mean", "low", "high"]].to_numpy(dtype=float)
    if not np.isfinite(ends).any():
        return False
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = (high - low) / 2
    return not low - room <= value <= high + room


def _name_beyond(axes: Axes, lines: Sequence[tuple[float, str, str]], digits: int) -> None:
    """Say at the edge what lies far above or below the curves."""
    middle = float(np.mean(axes.get_ylim()))
    for above in (True, False):
        mine = sorted(line for line in lines if (line[0] > middle) is above)
        for number, (value, name, colour) in enumerate(mine):
            turn = len(mine) - 1 - number if above else number
            axes.annotate(
                f"{shown(name)} {value:.{digits}f} {'↑' if above else '↓'}",
                (0.02, 1.0 if above else 0.0),
                xytext=(0, -1.3 * turn if above else 1.3 * turn),
                xycoords="axes fraction",
                textcoords="offset fontsize",
                va="top" if above else "bottom",
                fontsize="small",
                color=colour,
            )


def _spread(coded: pd.DataFrame) -> float:
    """Greatest bitrate over the least."""
    return float(coded["bitrate"].max() / coded["bitrate"].min()) if len(coded) else 1.0


def _turn(frame: pd.DataFrame, name: str) -> int:
    """Which of the references a series is."""
    return list(dict.fromkeys(frame["series"][frame["reference"]])).index(name)


def _looks(frame: pd.DataFrame, curve: pd.DataFrame) -> dict[str, Any]:
    """Colour, marker and line of a curve."""
    first = curve.iloc[0]
    if not first["reference"]:
        own = frame[~frame["reference"]]
        return looks(dict(zip(own["series"], own["quantizer"], strict=True)))[str(first["series"])].line
    turn = _turn(frame, str(first["series"]))
    return {
        "color": GREYS[turn % len(GREYS)],
        "marker": MARKERS[turn % len(MARKERS)],
        "markerfacecolor": "white",
        "linestyle": ":",
        "zorder": 1.5,
    }


def bd_figure(frame: pd.DataFrame, quantizers: Mapping[str, str] | None = None, scale: float = 1.0) -> Figure:
    """Draw the BD-rates of `comparisons.bd_rates` with intervals: one panel per metric, one line per series.

    The axis is logarithmic in the ratio of bitrates, so that half and twice the bits are equally far from
    equal bits. A marker is filled if the interval excludes 0.

    quantizers: the quantizer of each series, for its colour.
    """
    from matplotlib.figure import Figure

    known = frame[np.isfinite(frame["bd_rate"])]
    metrics = list(dict.fromkeys(known["metric"]))
    names = list(dict.fromkeys(known["series"]))
    height = (len(metrics) * (0.25 + 0.17 * len(names)) + 0.5) * scale
    figure = Figure(figsize=(SINGLE_COLUMN * 1.3 * scale, height), layout="constrained")
    panels = figure.subplots(len(metrics), 1, squeeze=False, sharex=True).ravel()
    for panel, metric in zip(panels, metrics, strict=True):
        for row in records(known[known["metric"] == metric]):
            colour, marker = appearance(row["series"], (quantizers or {}).get(row["series"], ""))
            place = -names.index(row["series"])
            value, low, high = (math.log2(1 + row[key] / 100) for key in ("bd_rate", "low", "high"))
            certain = row["low"] > 0 or row["high"] < 0
            panel.errorbar(
                value,
                place,
                xerr=[[value - low], [high - value]] if math.isfinite(low) else None,
                color=colour,
                marker=marker,
                markerfacecolor=colour if certain else "white",
                capsize=2,
            )
            panel.annotate(
                _percent(row),
                (1.02, place),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize="small",
                annotation_clip=False,
            )
        panel.axvline(0, color="black", linewidth=0.7, zorder=0)
        panel.set_yticks([-place for place in range(len(names))], [shown(name) for name in names])
        panel.set_ylim(0.4 - len(names), 0.6)
        column = quality_column(metric)
        panel.set_title(f"at equal {column.header}", loc="left")
    ends = np.log2(1 + known[["bd_rate", "low", "high"]].to_numpy(dtype=float) / 100)
    least, most = float(np.nanmin(ends)), float(np.nanmax(ends))
    steps = _ticks(min(least, 0.0), max(most, 0.0))
    panels[-1].set_xticks(
        [math.log2(step) for step in steps],
        [f"{100 * (step - 1):+.0f}" if step != 1 else "0" for step in steps],
    )
    panels[-1].set_xlabel(f"bitrate beside {shown(frame['anchor'].iloc[0])} (BD-rate, %); less is better")
    return figure


def _ticks(least: float, most: float) -> list[float]:
    """Ratios of bitrates for an axis from `least` to `most`, which are their logarithms to base 2."""
    room = 0.1 * (most - least)
    for ratios in _RATIOS:
        inside = [ratio for ratio in ratios if least - room <= math.log2(ratio) <= most + room]
        if len(inside) >= _FEWEST_TICKS:
            return inside
    return inside


def _percent(gain: Mapping[str, Any]) -> str:
    """`+46 % [-37, +235]`, the BD-rate of a row of `comparisons.bd_rates`."""
    ends = f" [{gain['low']:+.0f}, {gain['high']:+.0f}]" if np.isfinite(gain["low"]) else ""
    return f"{gain['bd_rate']:+.0f} %{ends}".replace("-0 ", "0 ").replace("+0 ", "0 ")
