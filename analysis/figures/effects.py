"""Figure of effects: the contrasts of a study, grouped by what their rows differ in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.figures.style import DOUBLE_COLUMN, MOST_LETTERS, SINGLE_COLUMN, shown
from analysis.results.columns import quality_column
from analysis.results.study_results import records
from experiments.common.matched_rates import rate_groups

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7F7F7F")  # of rates, the lowest first
_MARKERS = ("o", "s", "^", "v", "P", "X")
_LINE = 0.125  # inches of a difference
_GAP = 0.6  # of a line, between contrasts
_MOST_PANELS = 3  # side by side


def effect_figure(frame: pd.DataFrame, scale: float = 1.0) -> Figure:
    """Forest plot of `statistics.contrasts.contrasts`: a panel per metric, a marker per rate.

    A marker is filled where its interval leaves 0 out; with one seed none is, since other trainings might
    differ otherwise. A grey diamond is what the shape of the cells alone would make in theory.
    """
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(frame["metric"]))
    rates = _rates(frame)
    places, headings, lines = _places(frame, rates)
    columns = min(len(metrics), _MOST_PANELS)
    rows = -(-len(metrics) // columns)
    lowest = min(places.values())
    width = (DOUBLE_COLUMN if columns > 1 else 1.4 * SINGLE_COLUMN) * scale
    height = (rows * (0.55 - lowest * _LINE) + 0.45) * scale
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    several = int(frame["seeds"].min()) > 1
    for panel, metric in zip(panels, metrics, strict=False):
        for row in records(frame[frame["metric"] == metric]):
            _draw(panel, row, places[_key(row)], rates[row["of"]], several)
        for place in headings.values():
            panel.axhline(place, color="#DDDDDD", linewidth=0.7, zorder=0)
        panel.axvline(0, color="black", linewidth=0.7, zorder=0)
        panel.locator_params(axis="x", nbins=4)
        panel.grid(visible=False, axis="y")
        panel.set_xlabel(quality_column(metric).title)
    for panel in panels[::columns]:
        panel.set_yticks([*headings.values(), *lines.values()], [""] * (len(headings) + len(lines)))
        panel.set_yticklabels([*map(shown, headings), *(_in_lines(line) for _, line in lines)])
        for text in panel.get_yticklabels()[: len(headings)]:
            text.set_fontweight("bold")
        panel.tick_params(axis="y", length=0)
    panels[0].set_ylim(lowest - 0.9, 0.9)
    for empty in panels[len(metrics) :]:
        empty.set_axis_off()
    _legend(figure, frame, rates)
    over = "seeds and utterances" if several else "utterances"
    end = "filled: leaves 0 out" if several else "one seed: other trainings may differ otherwise"
    figure.supxlabel(f"bars: 95 % interval of each contrast over {over}; {end}", fontsize="small")
    return figure


def _in_lines(contrast: str) -> str:
    """The label of a contrast; where it would be cut, its last brackets have a line of their own."""
    if len(contrast) > MOST_LETTERS and (place := contrast.rfind(" (", 0, MOST_LETTERS + 1)) > 0:
        return f"{shown(contrast[:place])}\n{shown(contrast[place + 1 :])}"
    return shown(contrast)


def _key(row: dict[str, object]) -> tuple[object, ...]:
    return row["effect"], row["contrast"], row["of"], row["less"]


def _rates(frame: pd.DataFrame) -> dict[str, tuple[int, float]]:
    """Of each label, the number of its rate, the lowest first, and the mean rate in bit/s."""
    means = {str(label): float(rate) for label, rate in frame.groupby("of")["bitrate"].mean().items()}
    groups = sorted(rate_groups(means), key=lambda group: np.mean([means[label] for label in group]))
    return {
        label: (number, float(np.mean([means[other] for other in group])))
        for number, group in enumerate(groups)
        for label in group
    }


def _places(
    frame: pd.DataFrame, rates: dict[str, tuple[int, float]]
) -> tuple[dict[tuple[object, ...], float], dict[str, float], dict[tuple[str, str], float]]:
    """Heights of the differences, of the headings, and of the contrasts' lines; 0 is the top, 1 a line."""
    places: dict[tuple[object, ...], float] = {}
    headings: dict[str, float] = {}
    lines: dict[tuple[str, str], float] = {}
    height = 0.0
    for effect, group in frame.groupby("effect", sort=False):
        headings[str(effect)] = height
        height -= 1 + _GAP / 2
        for contrast, rows in group.groupby("contrast", sort=False):
            keys = dict.fromkeys(map(_key, sorted(records(rows), key=lambda row: rates[row["of"]][0])))
            label = _in_lines(str(contrast)).count("\n") + 1
            spare = max(0, label - len(keys)) / 2  # above and below, where the label has more lines
            for number, key in enumerate(keys):
                places[key] = height - spare - number
            lines[str(effect), str(contrast)] = height - spare - (len(keys) - 1) / 2
            height -= max(len(keys), label) + _GAP
        height -= _GAP
    return places, headings, lines


def _draw(panel: Axes, row: dict[str, float], place: float, rate: tuple[int, float], several: bool) -> None:
    number = rate[0] % len(_COLOURS)
    apart = several and (row["low"] > 0 or row["high"] < 0)
    if np.isfinite(row["by_shape"]):
        panel.plot(row["by_shape"], place, color="#999999", marker="D", markersize=6, zorder=1)
    panel.errorbar(
        row["difference"],
        place,
        xerr=[[row["difference"] - row["low"]], [row["high"] - row["difference"]]],
        color=_COLOURS[number],
        marker=_MARKERS[number],
        markerfacecolor=_COLOURS[number] if apart else "white",
        capsize=2,
        linestyle="none",
    )


def _legend(figure: Figure, frame: pd.DataFrame, rates: dict[str, tuple[int, float]]) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D(
            *([], []),
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle="none",
            label=f"{rate / 1e3:.2f} kbit/s",
        )
        for number, rate in sorted(set(rates.values()))
    ]
    if frame["by_shape"].notna().any():
        entries.append(
            Line2D(
                *([], []),
                color="#999999",
                marker="D",
                linestyle="none",
                label="the shape of the cells alone, by theory",
            )
        )
    figure.legend(handles=entries, loc="outside upper center", ncols=len(entries))
