"""Quality against the budget of a training, in steps and in seconds, and paired differences to the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures.style import DOUBLE_COLUMN, legend_below, looks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def budget_figure(
    means: pd.DataFrame,
    differences: pd.DataFrame,
    best: str,
    header: str,
    quantizers: dict[str, str] | None = None,
    scale: float = 1.0,
) -> Figure:
    """Three panels: `budget_means` against steps and against seconds of training, with a band from the least
    to the greatest seed, and `budget_differences` to `best` with 95 % intervals.

    header: what the metric is called.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(DOUBLE_COLUMN * scale, 2.6 * scale), layout="constrained")
    by_steps, by_seconds, apart = figure.subplots(1, 3)
    handles = {}
    labels = list(dict.fromkeys(means["label"]))
    look = looks({label: (quantizers or {}).get(label, "") for label in labels})
    for label in labels:
        colour = look[label].colour
        curve = means[means["label"] == label].sort_values("steps")
        for axes, key in ((by_steps, "steps"), (by_seconds, "seconds")):
            (line,) = axes.plot(curve[key], curve["mean"], markersize=4 * scale, **look[label].line)
            if (curve["seeds"] > 1).any():
                axes.fill_between(
                    curve[key], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0
                )
        handles[label] = line
        mine = differences[differences["label"] == label].sort_values("steps")
        if mine.empty:
            continue
        place = labels.index(label) - (len(labels) - 1) / 2
        shifted = mine["steps"] * 1.03**place  # intervals beside each other
        half = (mine["high"] - mine["difference"]).fillna(0.0)
        apart.errorbar(
            shifted,
            mine["difference"],
            yerr=half,
            markersize=4 * scale,
            linewidth=1,
            capsize=2,
            **look[label].line,
        )
    apart.axhline(0, color="black", linewidth=0.8)
    by_steps.set(xlabel="budget (steps)", ylabel=header)
    by_seconds.set(xlabel="training (s)")
    apart.set(xlabel="budget (steps)", ylabel=f"difference to {best}")
    for axes in (by_steps, apart):
        _mark_budgets(axes, sorted(set(means["steps"])))
    _plain_numbers(by_seconds)
    legend_below(figure, handles, 4)
    return figure


def _mark_budgets(axes: Axes, budgets: list[int]) -> None:
    """A logarithmic axis of steps whose ticks are the budgets."""
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{budget:,}" for budget in budgets], rotation=30)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _plain_numbers(axes: Axes) -> None:
    """A logarithmic axis with ticks at round numbers, written in full."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set_xscale("log")
    least, most = axes.get_xlim()
    digits = (1, 2, 5) if most < 1000 * least else (1,)
    within_a_decade = most < 10 * least
    axes.xaxis.set_major_locator(MaxNLocator(4) if within_a_decade else LogLocator(subs=digits))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
