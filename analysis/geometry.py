"""The planar grids behind a quantizer's name or a logged run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantizers.grids import PlanarGrid

_PREFIX = "q2d2-"


class GeometryError(ValueError):
    """A quantizer without planar grids, or levels that make none."""


def is_planar(quantizer: str) -> bool:
    """Whether the registered name belongs to a quantizer of planar grids."""
    return quantizer.startswith(_PREFIX)


def planar_grids(quantizer: str, levels: Sequence[int], spacing: str | None = None) -> tuple[PlanarGrid, ...]:
    """One grid a pair of `levels`, for `q2d2-hex`, `q2d2-rect`, `q2d2-rhombic` or their `-released` forms.

    Raises:
        GeometryError: another quantizer, or an odd number of levels.
        QuantizerError: levels that this kind of grid can't have.
    """
    from quantizers.grids import KINDS, PlanarGrid

    kind = quantizer.removeprefix(_PREFIX).removesuffix("-released")
    if not is_planar(quantizer) or kind not in KINDS:
        known = ", ".join(_PREFIX + name for name in KINDS)
        raise GeometryError(f"{quantizer!r} has no planar grid; known: {known}, each also with -released")
    if not levels or len(levels) % 2:
        raise GeometryError(f"levels come in pairs (x and y of each grid); got {len(levels)}: {list(levels)}")
    spacing = spacing or ("released" if quantizer.endswith("-released") else "ideal")
    pairs = zip(levels[::2], levels[1::2], strict=True)
    return tuple(PlanarGrid(kind, (int(x), int(y)), spacing) for x, y in pairs)


def reach(grids: Sequence[PlanarGrid], span: str = "cell") -> list[tuple[float, float]]:
    """Half width and half height of what tanh can reach in each grid: `cell`, `edge` or `released` range."""
    halves = []
    for grid in grids:
        steps = [level / 2 if span == "cell" else (level - 1) / 2 for level in grid.levels]
        halves.append((steps[0] * grid.pitch[0], steps[1] * grid.pitch[1]))
    return halves


def grids_of(run: Mapping[str, Any]) -> tuple[PlanarGrid, ...]:
    """The grids of one row of `Results.runs`, from its logged levels; empty for other quantizers."""
    quantizer = str(run["quantizer"])
    if not is_planar(quantizer):
        return ()
    levels = parameter(run, "levels")
    return planar_grids(quantizer, json.loads(levels), parameter(run, "spacing")) if levels else ()


def reach_of(run: Mapping[str, Any]) -> list[tuple[float, float]]:
    """What tanh can reach in each grid of a run."""
    released = str(run["quantizer"]).endswith("-released")
    return reach(grids_of(run), parameter(run, "range") or ("released" if released else "cell"))


def parameter(run: Mapping[str, Any], name: str) -> str | None:
    """A logged option of the run's quantizer, as text; None when it was not logged."""
    for key in (f"param/quantizer.config.{name}", f"param/quantizer.options.{name}"):
        value = run.get(key)
        if isinstance(value, str) and value:
            return value.replace("(", "[").replace(")", "]").replace(",]", "]")
    return None
