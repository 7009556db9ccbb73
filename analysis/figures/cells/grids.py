"""The planar grids behind a quantizer's name or a logged run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from quantizers.geometry.grids import KINDS, PlanarGrid
from quantizers.rates import choose_levels

if TYPE_CHECKING:
    from quantizers.geometry.grids import PlanarGrid

_PREFIX = "q2d2-"
TILINGS = ("q2d2-rect", "q2d2-hex", "q2d2-rhombic")


class GeometryError(ValueError):
    """A quantizer without planar grids, or levels that make none."""


@dataclass(frozen=True)
class LevelGrid:
    """The levels of two channels that are rounded apart, as FSQ's are: unit squares, `levels` of them."""

    levels: tuple[int, int]
    kind: str = "fsq"
    pitch: tuple[float, float] = (1.0, 1.0)

    @cached_property
    def points(self) -> np.ndarray:
        """`[x * y, 2]`, y running fastest, as joint codes do."""
        x, y = (np.arange(level) - (level - 1) / 2 for level in self.levels)
        return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)


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


def is_planar(quantizer: str) -> bool:
    """Whether the registered name belongs to a quantizer of planar grids."""
    return quantizer.startswith(_PREFIX)


def is_scalar(quantizer: str) -> bool:
    """Whether the registered name belongs to a quantizer that rounds each channel to fixed levels."""
    return quantizer == "fsq"


def planar_grids(quantizer: str, levels: Sequence[int], spacing: str | None = None) -> tuple[PlanarGrid, ...]:
    """One grid a pair of `levels`, for `q2d2-hex`, `q2d2-rect`, `q2d2-rhombic` or their `-released` forms.

    Raises:
        GeometryError: another quantizer, or an odd number of levels.
        QuantizerError: levels that this kind of grid can't have.
    """
    kind = quantizer.removeprefix(_PREFIX).removesuffix("-released")
    if not is_planar(quantizer) or kind not in KINDS:
        known = ", ".join(_PREFIX + name for name in KINDS)
        raise GeometryError(
            f"{quantizer!r} has no planar grid; known: {known}, each also with -released; and fsq"
        )
    _check_pairs(levels)
    spacing = spacing or ("released" if quantizer.endswith("-released") else "ideal")
    pairs = zip(levels[::2], levels[1::2], strict=True)
    return tuple(PlanarGrid(kind, (int(x), int(y)), spacing) for x, y in pairs)


def grids_of_levels(quantizer: str, levels: Sequence[int]) -> tuple[PlanarGrid | LevelGrid, ...]:
    """`planar_grids`, or the pairs of channels of FSQ.

    Raises:
        GeometryError: another quantizer, or an odd number of levels.
        QuantizerError: levels that this kind of grid can't have.
    """
    if not is_scalar(quantizer):
        return planar_grids(quantizer, levels)
    _check_pairs(levels)
    return tuple(LevelGrid((int(x), int(y))) for x, y in zip(levels[::2], levels[1::2], strict=True))


def tilings(bits: float) -> tuple[PlanarGrid, ...]:
    """The grid of each of `TILINGS` whose points come nearest 2 to the power `bits`.

    Raises:
        QuantizerError: bits that no grid has.
    """
    chosen = (choose_levels(bits, name.removeprefix(_PREFIX), channels=2) for name in TILINGS)
    return tuple(planar_grids(name, levels)[0] for name, levels in zip(TILINGS, chosen, strict=True))


def _check_pairs(levels: Sequence[int]) -> None:
    if not levels or len(levels) % 2:
        raise GeometryError(f"levels come in pairs (x and y of each grid); got {len(levels)}: {list(levels)}")


def reach(grids: Sequence[PlanarGrid | LevelGrid], span: str = "cell") -> list[tuple[float, float]]:
    """Half width and half height of what tanh can reach in each grid: `cell`, `edge` or `released` range."""
    halves = []
    for grid in grids:
        steps = [level / 2 if span == "cell" else (level - 1) / 2 for level in grid.levels]
        halves.append((steps[0] * grid.pitch[0], steps[1] * grid.pitch[1]))
    return halves


def grids_of(run: Mapping[str, Any]) -> tuple[PlanarGrid | LevelGrid, ...]:
    """The grids of one row of `Results.runs`, from its logged levels; empty for other quantizers.

    FSQ has one for channels 1 and 2, for 3 and 4, and so on.
    """
    quantizer = str(run["quantizer"])
    if is_scalar(quantizer):
        channels = json.loads(parameter(run, "levels") or "[]")
        return tuple(LevelGrid((x, y)) for x, y in zip(channels[::2], channels[1::2], strict=False))
    if not is_planar(quantizer):
        return ()
    levels = parameter(run, "levels")
    return planar_grids(quantizer, json.loads(levels), parameter(run, "spacing")) if levels else ()


def reach_of(run: Mapping[str, Any]) -> list[tuple[float, float]]:
    """What tanh can reach in each grid of a run."""
    quantizer = str(run["quantizer"])
    usual = "released" if quantizer.endswith("-released") else "edge" if is_scalar(quantizer) else "cell"
    halves = reach(grids_of(run), parameter(run, "range") or usual)
    spread = float(parameter(run, "spread") or 1.0)
    return [(spread * x, spread * y) for x, y in halves]


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


def parameter(run: Mapping[str, Any], name: str) -> str | None:
    """A logged option of the run's quantizer, as text; None when it was not logged."""
    for key in (f"param/quantizer.config.{name}", f"param/quantizer.options.{name}"):
        value = run.get(key)
        if isinstance(value, str) and value:
            return value.replace("(", "[").replace(")", "]").replace(",]", "]")
    return None
