"""Learning curves with seed bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures.style import DOUBLE_COLUMN, legend_below, looks
from analysis.results.columns import quality_column

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_PANELS = 4
_LOSSES = ("validation/loss", "validation/mel", "train/loss")


def curves(histories: pd.DataFrame) -> pd.DataFrame:
    """Mean and range over seeds: label, metric, step, mean, low (lowest seed), high (highest seed), seeds.

    Losses come first, then `validation/*`, then other logged metrics, up to four metrics. Metrics that never
    change are left out.
    """
    values = histories.groupby("metric", sort=False)["value"]
    logged = [str(name) for name, changes in (values.max() > values.min()).items() if changes]
    validation = [name for name in logged if name.startswith("validation/")]
    chosen = [name for name in [*_LOSSES, *validation, *logged] if name in logged]
    chosen = list(dict.fromkeys(chosen))[:MOST_PANELS]
    mine = histories[histories["metric"].isin(chosen)]
    frame = mine.groupby(["label", "metric", "step"], sort=False)["value"].agg(
        ["mean", "min", "max", "count"]
    )
    frame = frame.reset_index().rename(columns={"min": "low", "max": "high", "count": "seeds"})
    order = {name: place for place, name in enumerate(chosen)}
    return frame.sort_values("metric", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _name_of(metric: str) -> str:
    """`validation PESQ ↑ (MOS-LQO)`, `train loss`: a metric of quality has its unit, others their name."""
    kind, _, name = metric.partition("/")
    column = quality_column(name)
    if column.higher_is_better is None:
        return f"{kind} {name.replace('_', ' ')}".strip()
    return f"{kind} {column.title}"


def learning_figure(
    frame: pd.DataFrame, quantizers: dict[str, str] | None = None, scale: float = 1.0
) -> Figure:
    """Draw one panel per metric of `curves`, with one line per label.

    A band spans the lowest to the highest seed.
    """
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(frame["metric"]))
    columns = min(len(metrics), 2)
    rows = -(-len(metrics) // columns)
    width = DOUBLE_COLUMN * scale * (0.55 if columns == 1 else 1)
    figure = Figure(figsize=(width, (2.2 * rows + 0.4) * scale), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    handles = {}
    look = looks({label: (quantizers or {}).get(label, "") for label in map(str, frame["label"].unique())})
    for place, metric in enumerate(metrics):
        for label, curve in frame[frame["metric"] == metric].groupby("label", sort=False):
            curve = curve.sort_values("step")
            every = max(1, len(curve) // 6)
            (line,) = axes[place].plot(
                curve["step"],
                curve["mean"],
                markevery=every,
                markersize=3 * scale,
                **look[str(label)].line,
            )
            if (curve["seeds"] > 1).any():
                axes[place].fill_between(
                    curve["step"], curve["low"], curve["high"], color=line.get_color(), alpha=0.2, linewidth=0
                )
            handles[str(label)] = line
        axes[place].set_xlim(left=0)
        axes[place].set(xlabel="step", ylabel=_name_of(metric))
    for empty in axes[len(metrics) :]:
        empty.set_axis_off()
    legend_below(figure, handles, 4 if columns == 2 else 3)
    return figure
