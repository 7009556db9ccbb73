"""Shape gains in units of quality: the difference that the cells alone make between two quantizers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.results.logged_options import built
from quantizers.checks.source_coding import cell_moment

if TYPE_CHECKING:
    from analysis.results.study_results import Results


def shape_bits(of: Mapping[str, Any], less: Mapping[str, Any]) -> float:
    """Bits per frame that the cells of one run save over those of another; rows of `Results.runs`.

    At high rate a lattice whose cells have the normalised second moment G leaves a distortion proportional to
    G 4^(-R) at R bits per channel (Zador 1982; Conway and Sloane 1999, chapter 2). So `of` needs
    log2(G_less / G_of) / 2 bits per channel less for the same distortion: for hexagons in place of squares,
    0.167 dB, 0.028. NaN where a quantizer has no such cells, or where the numbers of channels differ.
    """
    moments, channels = [], set()
    for run in (of, less):
        quantizer = built(run)
        if quantizer is None:
            return math.nan
        moment = cell_moment(quantizer)
        if math.isnan(moment):
            return math.nan
        moments.append(moment)
        channels.add(int(getattr(quantizer.project_in, "out_features", 0)))
    if len(channels) > 1:
        return math.nan
    return channels.pop() / 2 * math.log2(moments[1] / moments[0])


def quality_per_bit(results: Results, label: str, metric: str) -> float:
    """Slope of a metric by the bits per frame at the row `label`, along the rows of its series.

    A central difference between the neighbours in rate, one-sided at the ends; NaN where there is one rate.
    """
    finished = results.finished
    series = finished.loc[finished["label"] == label, "series"]
    if series.empty or f"eval/{metric}" not in finished:
        return math.nan
    rows = finished[finished["series"] == series.iloc[0]].groupby("label")
    curve = rows[["rate/bits_per_frame", f"eval/{metric}"]].mean().sort_values("rate/bits_per_frame")
    bits = curve["rate/bits_per_frame"].to_numpy(dtype=float)
    if len(bits) < 2 or (np.diff(bits) <= 0).any():
        return math.nan
    slopes = np.gradient(curve[f"eval/{metric}"].to_numpy(dtype=float), bits)
    return float(slopes[list(curve.index).index(label)])
