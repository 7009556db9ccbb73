"""Planes of cells: the pairs of channels of a registered quantizer, or of a logged run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import quantizers
from analysis.results.logged_options import logged_options
from quantizers.geometry.grids import PlanarGrid
from quantizers.geometry.views import LevelGrid, PlanarView
from quantizers.rates import choose_levels

Grid = PlanarGrid | LevelGrid

TILINGS = ("q2d2-rect", "q2d2-hex", "q2d2-rhombic")


class GeometryError(ValueError):
    """A quantizer without planar grids, or levels that make none."""


@dataclass(frozen=True)
class SliceGrid:
    """A codebook in the plane of its first two principal components, as logged.

    points: `[codes, 2]`, feet of the codes. offsets: `[codes]`, their squared distances from the plane.
    explained: share of the codebook's variance along each axis.
    """

    points: np.ndarray
    offsets: np.ndarray
    explained: tuple[float, float]
    name: str
    kind: str = "slice"
    levels: tuple[int, ...] = ()

    @property
    def note(self) -> str:
        """The panel's title."""
        share = 100 * sum(self.explained)
        return f"{self.name}\n{len(self.points):,} codes, {share:.0f} % of their variance"


def views_of_levels(quantizer: str, levels: Sequence[int], span: str | None = None) -> tuple[PlanarView, ...]:
    """The pairs of channels of a registered quantizer that has `levels` along its channels.

    span: of `range`, where the quantizer has that option and its name does not fix it.

    Raises:
        GeometryError: a quantizer without such pairs, or an odd number of levels.
        QuantizerError: an unknown quantizer, or levels that it can't have.
    """
    known = quantizers.options(quantizer)
    if "levels" not in known:
        raise GeometryError(f"{quantizer!r} has no planar grid; known: {', '.join(TILINGS)}, fsq and others")
    _check_pairs(levels)
    options: dict[str, Any] = {"levels": list(levels)}
    if span is not None and "range" in known:
        options["range"] = span
    views = quantizers.planar_views(quantizer, options)
    if not views:
        raise GeometryError(f"{quantizer!r} has no planar grid; known: {', '.join(TILINGS)}, fsq and others")
    return views


def planar_grids(quantizer: str, levels: Sequence[int]) -> tuple[Grid, ...]:
    """The grid of each pair of channels; what is raised: as in `views_of_levels`."""
    return tuple(view.grid for view in views_of_levels(quantizer, levels))


def tilings(bits: float, span: str | None = None) -> tuple[PlanarView, ...]:
    """A pair of channels of each of `TILINGS`, with the levels that come nearest 2^`bits` points.

    Raises:
        QuantizerError: bits that no grid has.
    """
    levels = [choose_levels(bits, name.removeprefix("q2d2-"), channels=2) for name in TILINGS]
    return tuple(views_of_levels(name, pair, span)[0] for name, pair in zip(TILINGS, levels, strict=True))


def _check_pairs(levels: Sequence[int]) -> None:
    if not levels or len(levels) % 2:
        raise GeometryError(f"levels come in pairs (x and y of each grid); got {len(levels)}: {list(levels)}")


def views_of(run: Mapping[str, Any]) -> tuple[PlanarView, ...]:
    """The pairs of channels of one row of `Results.runs`, by what its quantizer says of itself.

    Empty for quantizers without such pairs, for runs that logged no options, and for a plug-in that is not
    installed here.
    """
    options = logged_options(run)
    if not options:
        return ()
    try:
        return quantizers.planar_views(str(run["quantizer"]), options)
    except quantizers.QuantizerError:
        return ()


def grids_of(run: Mapping[str, Any]) -> tuple[Grid, ...]:
    """The grid of each pair of channels of one row of `Results.runs`; empty for other quantizers."""
    return tuple(view.grid for view in views_of(run))


def reach_of(run: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Half width and half height of what the latents of a run can reach in each grid."""
    return [view.reach for view in views_of(run)]


def slices_of(arrays: Mapping[str, np.ndarray]) -> list[tuple[SliceGrid, np.ndarray]]:
    """Each codebook of `Results.slices`, with the feet of its latents `[n, 2]`."""
    count = sum(key.startswith("points_") for key in arrays)
    found = []
    for group in range(count):
        name = "codebook" if count == 1 else f"codebook {group + 1} of {count}"
        x, y = arrays[f"explained_{group}"].tolist()
        grid = SliceGrid(arrays[f"points_{group}"], arrays[f"distances_{group}"], (x, y), name)
        found.append((grid, arrays[f"latents_{group}"]))
    return found
