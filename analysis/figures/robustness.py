"""Quality against the severity of a disturbance."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.style import DOUBLE_COLUMN, legend_below, looks
from analysis.results.columns import quality_column

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.results.study_results import Results

AXES = {
    "flips": "codes replaced\n(%)",
    "drops": "frames lost\n(%)",
    "shuffles": "frames shuffled\n(%)",
    "reencodings": "coded again\n(times)",
    "noise": "input noise\n(SNR, dB)",
    "gain": "input gain\n(dB)",
}
_UNDISTURBED_AT_ZERO = ("flips", "drops", "shuffles", "reencodings", "gain")
_UNDISTURBED = "undisturbed"
_NAME = re.compile(r"robustness/(?P<kind>\w+)/(?P<severity>-?[\d.]+)/(?P<metric>\w+)")
_ENDS = ("low", "high")
_COUNTS = ("_low", "_high", "_asked", "_scored", "_failed")


def robustness_frame(results: Results) -> pd.DataFrame:
    """One row per label, kind, severity and metric, as means over seeds: with quantizer, mean, low, high.

    Severity 0 is the same utterances without disturbance. With several seeds, low and high are the means of
    the ends of the seeds' intervals.
    """
    runs = results.finished
    names = [match for column in map(str, runs.columns) if (match := _NAME.fullmatch(column))]
    found = [match for match in names if not match["metric"].endswith(_COUNTS)]
    wanted = {(m["kind"], float(m["severity"]), m["metric"]): m[0] for m in found}
    clean = {key[2]: wanted.pop(key) for key in list(wanted) if key[0] == _UNDISTURBED}
    for kind, _, metric in list(wanted):
        if kind in _UNDISTURBED_AT_ZERO and metric in clean:
            wanted.setdefault((kind, 0.0, metric), clean[metric])
    rows = []
    for label, group in runs.groupby("label", sort=False):
        for (kind, severity, metric), column in sorted(wanted.items()):
            mean = group[column].astype(float).mean()
            ends = [
                group[f"{column}_{end}"].mean() if f"{column}_{end}" in group else np.nan for end in _ENDS
            ]
            hit = [c for (k, s, m), c in wanted.items() if (k, m) == (kind, metric) and (s or k == "noise")]
            if np.isfinite(mean) and group[hit].notna().any(axis=None):
                rows.append((label, group["quantizer"].iloc[0], kind, severity, metric, mean, *ends))
    return pd.DataFrame(rows, columns=["label", "quantizer", "kind", "severity", "metric", "mean", *_ENDS])


def robustness_figure(frame: pd.DataFrame, scale: float = 1.0) -> Figure:
    """Draw a row of panels per metric, a panel per kind of disturbance, and a line per label."""
    from matplotlib.figure import Figure

    kinds = [kind for kind in AXES if kind in set(frame["kind"])]
    metrics = list(dict.fromkeys(frame["metric"]))
    width = min(DOUBLE_COLUMN, 1.2 + 1.6 * len(kinds))
    figure = Figure(figsize=(width * scale, (1.7 * len(metrics) + 0.5) * scale), layout="constrained")
    panels = figure.subplots(len(metrics), len(kinds), squeeze=False, sharey="row")
    handles = {}
    look = looks(dict(zip(frame["label"], frame["quantizer"], strict=True)))
    for row, metric in enumerate(metrics):
        for place, kind in enumerate(kinds):
            panel = panels[row, place]
            mine = frame[(frame["metric"] == metric) & (frame["kind"] == kind)]
            for label, curve in mine.groupby("label", sort=False):
                curve = curve.sort_values("severity")
                mean = curve["mean"].to_numpy()
                bars = np.nan_to_num(np.abs([mean - curve["low"], curve["high"] - mean]))
                handles[str(label)] = panel.errorbar(
                    curve["severity"], mean, yerr=bars, capsize=1.5, **look[str(label)].line
                )
            if kind == "noise":
                panel.invert_xaxis()  # worse to the right, as in the others
            panel.locator_params(axis="x", nbins=4)
            panel.set_xlabel(AXES[kind] if row == len(metrics) - 1 else "")
        column = quality_column(metric)
        panels[row, 0].set_ylabel(column.name)
    legend_below(figure, handles, 5)
    return figure
