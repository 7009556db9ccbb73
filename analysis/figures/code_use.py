"""Use of codes: rank-frequency curves, histograms, and use against codebook size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures.style import DOUBLE_COLUMN, appearance, legend_below, looks, shown
from analysis.results.labels import series

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_COLUMNS = 3
SHOWN = 1000  # points of a rank curve
_SHARES = {  # name in `sizes`, and under usage/ in a run
    "used": "used_fraction",
    "uniform": "uniform_used_fraction",
    "entropy": "entropy_fraction",
    "joint_used": "joint_used_fraction",
    "joint_uniform": "joint_uniform_used_fraction",
    "joint_entropy": "joint_entropy_fraction",
    "joint_uniform_entropy": "joint_uniform_entropy_fraction",
}
_BY_FACTOR = (  # size along the axis, what is drawn, what of a uniform source, title
    ("codebook_size", "used", "uniform", "codes used, by factor (%)"),
    ("codebook_size", "entropy", "", "entropy / maximum, by factor (%)"),
)
_JOINTLY = (
    ("frame_codes", "joint_used", "joint_uniform", "codes used, jointly (%)"),
    ("frame_codes", "joint_entropy", "joint_uniform_entropy", "entropy / maximum, jointly (%)"),
)
USE_BINS = tuple(range(-4, 5))  # powers of two from which the bins of a histogram begin


def ranks(usage: pd.DataFrame) -> pd.DataFrame:
    """Codes in the order of falling use: label, factor, codes, unused, rank (from 1), code, count, use.

    use: relative to uniform use.
    usage: that of `Results`. Counts of different seeds must not be mixed, so the first seed of a label is
    used. Of a large codebook only `SHOWN` ranks are kept, evenly spaced in their logarithm.
    """
    first = usage.groupby("label", sort=False)["seed"].transform("min")
    mine = usage[usage["seed"] == first]
    place = {label: number for number, label in enumerate(dict.fromkeys(mine["label"]))}
    mine = mine.assign(place=mine["label"].map(place)).sort_values(
        ["place", "factor", "count"], ascending=[True, True, False], kind="stable"
    )
    groups = mine.groupby(["label", "factor"], sort=False)
    sizes = groups["count"].transform("size")
    frame = mine.assign(
        rank=groups.cumcount() + 1,
        codes=sizes,
        unused=(mine["count"] == 0).groupby([mine["label"], mine["factor"]]).transform("sum"),
        use=mine["count"] * sizes / groups["count"].transform("sum").clip(lower=1),
    )
    shown = set(np.unique(np.geomspace(1, max(len(frame), 2), SHOWN).round().astype(int)))
    kept = (
        (frame["codes"] <= SHOWN)
        | frame["rank"].isin(shown)
        | (frame["rank"] == frame["codes"] - frame["unused"])
    )
    names = ["label", "factor", "codes", "unused", "rank", "code", "count", "use"]
    return frame.loc[kept, names].reset_index(drop=True)


def rank_figure(frame: pd.DataFrame, quantizers: dict[str, str] | None = None, scale: float = 1.0) -> Figure:
    """Draw the rank-frequency curves of `ranks`: one panel per label, one line per factor.

    Unused codes are left out.
    """
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(frame["label"]))
    columns = min(len(labels), _COLUMNS)
    rows = -(-len(labels) // columns)
    width = DOUBLE_COLUMN * scale * columns / _COLUMNS
    figure = Figure(figsize=(width + 0.3 * scale, 1.9 * scale * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for place, label in enumerate(labels):
        colour, _ = appearance(label, (quantizers or {}).get(label, ""))
        mine = frame[frame["label"] == label]
        by_factor = mine.groupby("factor")[["codes", "unused"]].first().sum()
        dead, total = int(by_factor["unused"]), int(by_factor["codes"])
        for _, curve in mine[mine["count"] > 0].groupby("factor", sort=False):
            axes[place].plot(curve["rank"], curve["use"], color=colour, alpha=0.8, marker=".", markersize=2)
        axes[place].axhline(1, color="black", linestyle="--", linewidth=0.7)
        axes[place].set(xscale="log", yscale="log")
        factors = mine["factor"].nunique()
        axes[place].set_title(
            f"{shown(label)}\n{factors} factor{'s' * (factors > 1)}, {dead:,} of {total:,} codes unused"
        )
    for place, panel in enumerate(axes):
        if place >= len(labels):
            panel.set_axis_off()
        if place + columns >= len(labels):
            panel.set_xlabel("rank of the code")
            panel.tick_params(labelbottom=True)
        if place % columns == 0:
            panel.set_ylabel("use / uniform use,\nby factor")
    return figure


def use_histogram(usage: pd.DataFrame) -> pd.DataFrame:
    """Histogram of code use over all factors of a label: label, use, codes, share.

    use: lower edge of the bin, relative to uniform use; the bin reaches to twice this value; 0 for unused
    codes. The outer bins include all values beyond. codes: number of codes in the bin. share: their share of
    all codes of the label. The first seed of a label is used.
    """
    import pandas as pd

    first = usage.groupby("label", sort=False)["seed"].transform("min")
    mine = usage[usage["seed"] == first]
    groups = mine.groupby(["label", "factor"], sort=False)["count"]
    use = mine["count"] * groups.transform("size") / groups.transform("sum").clip(lower=1)
    least, most = USE_BINS[0], USE_BINS[-1]
    exponents = np.floor(np.log2(use.clip(lower=2.0**least))).clip(least, most)
    bins = np.where(use > 0, 2.0**exponents, 0.0)
    rows = []
    for label, codes in pd.Series(bins).groupby(mine["label"].to_numpy(), sort=False):
        for start in (0.0, *(2.0**exponent for exponent in USE_BINS)):
            number = int((codes == start).sum())
            rows.append((label, start, number, number / len(codes)))
    return pd.DataFrame(rows, columns=["label", "use", "codes", "share"])


def histogram_figure(
    frame: pd.DataFrame, quantizers: dict[str, str] | None = None, scale: float = 1.0
) -> Figure:
    """Draw the histograms of `use_histogram`, one panel per label.

    The hatched bar shows the codes that were never used.
    """
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(frame["label"]))
    columns = min(len(labels), _COLUMNS)
    rows = -(-len(labels) // columns)
    width = DOUBLE_COLUMN * scale * columns / _COLUMNS
    figure = Figure(figsize=(width, (1.35 * rows + 0.35) * scale), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    places = np.array([USE_BINS[0] - 1.5, *(exponent + 0.5 for exponent in USE_BINS)])
    ticks = [exponent for exponent in USE_BINS if exponent % 2 == 0 and exponent > USE_BINS[0]]
    for place, label in enumerate(labels):
        colour, _ = appearance(label, (quantizers or {}).get(label, ""))
        share = 100 * frame[frame["label"] == label]["share"].to_numpy()
        axes[place].bar(places[1:], share[1:], width=0.9, color=colour)
        axes[place].bar(
            places[:1],
            share[:1],
            width=0.9,
            facecolor="white",
            edgecolor=colour,
            hatch="//////",
            linewidth=0.6,
        )
        axes[place].axvline(0, color="black", linestyle="--", linewidth=0.7)
        axes[place].set_title(shown(label))
        axes[place].grid(visible=False, axis="x")
    for place, panel in enumerate(axes):
        if place >= len(labels):
            panel.set_axis_off()
        if place + columns >= len(labels):
            names = ["unused", *(f"{2.0**exponent:g}" for exponent in ticks)]
            panel.set_xticks([places[0], *ticks], names)
            panel.set_xlabel("use / uniform use")
            panel.tick_params(labelbottom=True)
        if place % columns == 0:
            panel.set_ylabel("codes, by factor (%)")
    return figure


def sizes(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per finished run: label, quantizer, seed, tokens, codebook_size, frame_codes, and shares.

    codebook_size: codes of one stream. frame_codes: codes of a whole frame. The shares are the fractions of
    `_SHARES`, of each factor alone and of the codes of a frame jointly.

    runs: that of `Results`.
    """
    if "usage/used_fraction" not in runs:
        runs = runs.assign(**{"usage/used_fraction": np.nan})
    coded = runs[(runs["rate/bits_per_frame"] > 0) & runs["usage/used_fraction"].notna()]
    bits = coded["rate/bits_per_frame"]
    frame = coded[["label", "quantizer", "seed"]].assign(
        tokens=coded.get("usage/tokens", np.nan),
        codebook_size=2 ** (bits / coded["rate/streams"].clip(lower=1)),
        frame_codes=2**bits,
    )
    for name, source in _SHARES.items():
        frame[name] = coded.get(f"usage/{source}", np.nan)
    return frame.reset_index(drop=True)


def size_figure(frame: pd.DataFrame, curves: Mapping[str, str] | None = None, scale: float = 1.0) -> Figure:
    """Draw codes used and entropy against codebook size.

    Values are joint for a frame, or by factor if runs lack joint values.
    Points are means of seeds, with bars from the lowest to the highest. Grey shows the value of a uniform
    source.

    curves: the series of each label, whose rows are joined by a line; by default derived from the label.
    """
    from matplotlib.figure import Figure

    panels = _JOINTLY if frame["joint_used"].notna().any() else _BY_FACTOR
    figure = Figure(figsize=(DOUBLE_COLUMN * scale, 2.6 * scale), layout="constrained")
    handles = {}
    named = frame.assign(series=[(curves or {}).get(label) or series(label) for label in frame["label"]])
    look = looks(dict(zip(named["series"], named["quantizer"], strict=True)))
    for axes, (size, column, uniform, title) in zip(
        figure.subplots(1, 2, squeeze=False).flat, panels, strict=True
    ):
        for name, group in named.groupby("series", sort=False):
            by_size = group.groupby(size)
            mean = by_size[[column, uniform] if uniform else [column]].mean()
            ends = 100 * np.stack([by_size[column].min(), by_size[column].max()])
            if uniform and mean[uniform].notna().any():
                handles["uniform source"] = axes.scatter(
                    mean.index, 100 * mean[uniform], color="#555555", marker="_", s=110 * scale, zorder=4
                )
            middle = 100 * mean[column].to_numpy()
            handles[str(name)] = axes.errorbar(
                mean.index,
                middle,
                yerr=np.maximum([middle - ends[0], ends[1] - middle], 0),  # means of equal values round
                elinewidth=0.6 * scale,
                **look[str(name)].line,
            )
        axes.set_xscale("log", base=2)
        if named[size].max() < 2 * named[size].min():  # an axis without a power of two has no ticks
            only = float(named[size].mean())
            axes.set_xticks([only], [f"$2^{{{np.log2(only):.1f}}}$"])
            axes.set_xlim(only / 2, only * 2)
        names = {"codebook_size": "codebook size of a stream", "frame_codes": "codes of a frame"}
        axes.set(xlabel=names[size], ylabel=title, ylim=(0, 105))
    legend_below(figure, handles, 5)
    return figure
