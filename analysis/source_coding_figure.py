"""Curves of signal-to-noise ratio against bits for known sources, with Shannon's bound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quantizers.source_coding import Point, high_rate_snr, shannon_snr


def draw(points: Sequence[Point], path: Path, dim: int) -> None:
    """Write one panel a source to `path`: decibels below Shannon's bound against bits a value (lower is
    better)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sources = list(dict.fromkeys(point.source for point in points))
    names = list(dict.fromkeys(point.quantizer for point in points))
    figure = Figure(figsize=(4.2 * len(sources) + 1.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(sources), squeeze=False, sharey=True)[0]
    styles = [
        (colour, mark) for mark in "os^Dv" for colour in ("C0", "C1", "C2", "C3", "C4", "C6", "C8", "C9")
    ]
    for axis, source in zip(axes, sources, strict=True):
        here = [point for point in points if point.source == source]
        for name, (colour, mark) in zip(names, styles, strict=False):
            curve = sorted((p.bits, p.gap, p.error) for p in here if p.quantizer == name)
            if curve:
                rate, gap, error = zip(*curve, strict=True)
                axis.errorbar(rate, gap, error, color=colour, marker=mark, ms=4, lw=1, label=name)
        rates = np.linspace(min(p.bits for p in here), max(p.bits for p in here), 30)
        cubic = [shannon_snr(source, rate, dim) - high_rate_snr(source, rate, dim) for rate in rates]
        axis.plot(rates, cubic, color="0.5", ls="--", lw=1, label="cubic lattice, entropy coded, high rate")
        axis.axhline(0, color="black", lw=1)
        axis.set(title=source, xlabel="bits a value")
    axes[0].set_ylabel("decibels below Shannon's bound")
    axes[0].set_ylim(bottom=-0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=150)
