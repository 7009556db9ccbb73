"""Quality against bitrate, and Bjontegaard differences between curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures.style import DOUBLE_COLUMN, SINGLE_COLUMN, appearance, legend_below, looks, shown
from analysis.results.columns import quality_column
from experiments.common.matched_rates import RATE_TOLERANCE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOGARITHMIC_FROM = 4.0  # greatest over least bitrate from which the axis is logarithmic
GREYS = ("#444444", "#7A7A7A", "#A0A0A0", "#5F6B73")  # of references
MARKERS = ("s", "^", "D", "o", "v", "P")


def has_curves(frame: pd.DataFrame) -> bool:
    """Whether some series of `estimates.summary` was measured at two rates or more."""
    coded = frame[frame["bitrate"] > 0]
    return bool((coded.groupby("series")["bitrate"].nunique() > 1).any())


def rate_distortion_figure(
    frame: pd.DataFrame, *, legend: dict[str, str] | None = None, scale: float = 1.0
) -> Figure:
    """Curves of each metric over bitrate with 95 % bars; what spends no bits is a line, or a note at the edge
    where a line would press the curves together.

    Quantizers are in colour, references in grey. Curves are moved sideways by about a percent of the axis
    so that their bars can be told apart.

    Args:
        frame: from `estimates.summary`.
        legend: text after a series' name, such as its BD-rate.
        scale: factor on the size in inches.
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
        kilobits = dict(zip(coded["label"], _apart(coded), strict=True))
        for name, curve in coded.groupby("series", sort=False):
            curve = curve.sort_values("bitrate")
            mean = curve["mean"].to_numpy()
            bars = np.abs(np.stack([mean - curve["low"], curve["high"] - mean]))
            drawn = axes[place].errorbar(
                curve["label"].map(kilobits),
                mean,
                yerr=np.nan_to_num(bars),
                capsize=2,
                **_looks(frame, curve),
            )
            handles[f"{name}{(legend or {}).get(str(name), '')}"] = drawn
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
        unit = f" ({column.unit})" if column.unit else ""
        axes[place].set(xlabel="bitrate (kbit/s)", ylabel=f"{column.header} {column.arrow}{unit}")
    for empty in axes[len(metrics) :]:
        empty.set_axis_off()
    legend_below(figure, handles, 4 if columns > 1 else 2)
    return figure


def _far(value: float, coded: pd.DataFrame) -> bool:
    """Whether a line at `value` would press the curves together: it is farther off than they are high."""
    ends = coded[["mean", "low", "high"]].to_numpy(dtype=float)
    if not np.isfinite(ends).any():
        return False
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    return not 2 * low - high <= value <= 2 * high - low


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


def _apart(coded: pd.DataFrame) -> np.ndarray:
    """Bitrates in kbit/s, those of quantizers moved sideways so that bars do not hide others, though by no
    more than rates may differ that count as equal."""
    rates = coded["bitrate"].to_numpy(dtype=float) / 1e3
    own = ~coded["reference"].to_numpy(dtype=bool)
    order = {name: turn for turn, name in enumerate(dict.fromkeys(coded["series"][own]))}
    last = (len(order) - 1) / 2
    steps = np.array([order.get(name, 0) - last for name in coded["series"]]) * own
    most = RATE_TOLERANCE / max(last, 1)
    if _spread(coded) > LOGARITHMIC_FROM:
        return rates * np.exp(min(0.016 * np.log(_spread(coded)), most) * steps)
    return rates + min(0.006 * float(np.ptp(rates)), most * float(rates.min())) * steps


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


def bd_text(gain: Mapping[str, Any]) -> str:
    """`BD-rate by PESQ -7 % [-12, -2]`, as a legend shows a row of `comparisons.bd_rates`; nothing for one
    without an interval."""
    if not np.isfinite(gain["low"]):
        return ""
    ends = f"[{gain['low']:+.0f}, {gain['high']:+.0f}]"
    return f"\nBD-rate by {quality_column(gain['metric']).header} {gain['bd_rate']:+.0f} % {ends}"


def bd_figure(frame: pd.DataFrame, scale: float = 1.0) -> Figure:
    """BD-rates of `comparisons.bd_rates` with their intervals, one row a metric and series."""
    from matplotlib.figure import Figure

    known = frame[np.isfinite(frame["bd_rate"])].iloc[::-1]
    figure = Figure(
        figsize=(SINGLE_COLUMN * scale, (0.72 + 0.17 * max(len(known), 3)) * scale), layout="constrained"
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
    names = [f"{shown(name)}, {header}" for name, header in zip(known["series"], headers, strict=True)]
    panel.set_yticks(range(len(known)), names)
    panel.set_xlabel(f"BD-rate against {shown(frame['anchor'].iloc[0])} (%)\nless is better")
    return figure
