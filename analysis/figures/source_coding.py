"""Curves of signal-to-noise ratio against bits for known sources and recorded frames, with a bound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis.figures import style
from quantizers.checks.source_coding import Point
from quantizers.checks.sources import RECORDED, high_rate_snr, shannon_snr


def draw(points: Sequence[Point], path: Path, dim: int) -> None:
    """Write one panel a source to `path`: decibels below the bound against bits per value (lower is better).
    Names in the legend are in the order of the curves at their highest rate, worst first. Points below 0 dB,
    which are worse than sending nothing, are left out: a training that diverged would flatten all curves."""
    from matplotlib.figure import Figure

    points = [point for point in points if point.snr > 0]
    sources = list(dict.fromkeys(point.source for point in points))
    with style.style("web"):
        figure = Figure(figsize=(3.6 * len(sources) + 1.8, 4.4), layout="constrained")
        axes = figure.subplots(1, len(sources), squeeze=False, sharey=True)[0]
        for axis, source in zip(axes, sources, strict=True):
            here = [point for point in points if point.source == source]
            for name in dict.fromkeys(point.quantizer for point in here):
                curve = sorted((p.bits, p.gap, p.error) for p in here if p.quantizer == name)
                colour, marker = style.appearance(name)
                rate, gap, error = zip(*curve, strict=True)
                axis.errorbar(rate, gap, error, color=colour, marker=marker, label=name)
            axis.axhline(0, color="black", lw=1)
            axis.set(title=source, xlabel="bits per value")
            if source == RECORDED:
                axis.set_title("features of the unquantized codec\n0: bound of a Gaussian source like them")
                continue
            rates = np.linspace(min(p.bits for p in here), max(p.bits for p in here), 30)
            cubic = [shannon_snr(source, rate, dim) - high_rate_snr(source, rate, dim) for rate in rates]
            axis.plot(rates, cubic, color="0.4", ls="--", label="cubic lattice, entropy\ncoded, high rate")
        axes[0].set_ylabel("decibels below the bound")
        axes[0].set_ylim(bottom=min(-0.3, *(point.gap - 0.1 for point in points)))
        handles = dict(zip(*axes[0].get_legend_handles_labels()[::-1], strict=True))
        figure.legend(
            [handles[name] for name in _worst_first(points, list(handles))],
            _worst_first(points, list(handles)),
            loc="outside right center",
        )
        style.save(figure, path.with_suffix(""), [path.suffix.lstrip(".")])


def _worst_first(points: Sequence[Point], names: list[str]) -> list[str]:
    """Names by their mean gap over sources at the highest rate; those without points last."""

    def gap(name: str) -> float:
        mine = [point for point in points if point.quantizer == name]
        top = max((point.bits for point in mine), default=0.0)
        return float(np.mean([p.gap for p in mine if p.bits >= 0.9 * top])) if mine else -np.inf

    return sorted(names, key=gap, reverse=True)
