"""Voronoi cells in the plane: of planar grids, and of slices of codebooks, with their use and latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from analysis.figures.cells.panel import (
    GRID_WORDS,
    Words,
    draw_cells,
    draw_displacement,
    draw_latents,
    draw_outline,
    draw_saturation,
    legend,
    shading,
)
from analysis.figures.cells.saturation import Saturation
from analysis.figures.style import DOUBLE_COLUMN

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from quantizers.geometry.views import PlanarView

_COLUMNS = 3
_WIDE, _SIDE = 2.25, 0.75  # inches of a panel, and of the colour bar
_LETTERS = 15  # of a title in an inch
_AXES = {
    False: ("first channel (grid steps)", "second channel (grid steps)"),
    True: ("first principal component", "second principal component"),
}


class PlanarGrid(Protocol):
    """A grid as a plot needs it, such as those of `quantizers.geometry`. `points` is `[n, 2]`.

    One with `offsets`, `[n]`, is drawn as a power diagram; one with a `note` is described by it.
    """

    @property
    def points(self) -> Any: ...
    @property
    def kind(self) -> str: ...
    @property
    def levels(self) -> Sequence[int]: ...


class VoronoiError(ValueError):
    """Grids, histograms and latents that don't belong together."""


def box_around(
    points: np.ndarray,
    latents: np.ndarray | None = None,
    reach: Sequence[float] | None = None,
    margin: float = 0.08,
) -> np.ndarray:
    """`[[left, bottom], [right, top]]`: half a cell beyond the outer points, with latents and `reach`."""
    spacing = np.sqrt(np.prod(np.ptp(points, axis=0)) / len(points)) or 1.0
    low, high = points.min(axis=0) - spacing / 2, points.max(axis=0) + spacing / 2
    if reach is not None:
        low, high = np.minimum(low, [-reach[0], -reach[1]]), np.maximum(high, reach)
    if latents is not None and len(latents):
        low, high = np.minimum(low, latents.min(axis=0)), np.maximum(high, latents.max(axis=0))
    return np.stack([low - margin * spacing, high + margin * spacing])


def voronoi_figure(
    grids: Sequence[PlanarGrid],
    histograms: Sequence[np.ndarray] = (),
    latents: Sequence[np.ndarray] = (),
    title: str = "",
    *,
    reach: Sequence[tuple[float, float]] = (),
    displacement: bool = False,
    titles: Sequence[str] = (),
    saturation: Sequence[Saturation] = (),
    words: Words = GRID_WORDS,
    columns: int = _COLUMNS,
    scale: float = 1.0,
) -> Figure:
    """One panel a grid. Call it inside `style.style`.

    Args:
        grids: the planar grids of a quantizer, one per pair.
        histograms: counts of each grid's points, `[n]`, in the order of `points`; empty for geometry only.
        latents: pre-quantization coordinates in grid units, `[samples, 2]` each; empty for none.
        title: of the figure.
        reach: half width and half height of the rectangle that latents can reach, one per pair.
        displacement: draw a line from each point to the mean of the latents in its cell.
        titles: first words of each panel's title; by default the number of the pair.
        saturation: of the two channels of each pair, written into its panel; empty for none.
        words: of the legend.
        columns: most panels in a row.
        scale: factor on the size in inches, as `style.style` yields it.

    Raises:
        VoronoiError: lengths that don't match.
    """
    from matplotlib.figure import Figure

    _check(grids, histograms, latents)
    columns = min(len(grids), columns)
    rows = -(-len(grids) // columns)
    pairs = [_pair(grids, histograms, latents, index) for index in range(len(grids))]
    sliced = [hasattr(grid, "offsets") for grid in grids]
    reaches: list[Any] = list(reach) or [None] * len(grids)
    boxes = [
        box_around(points, sample, half) for (points, _, sample), half in zip(pairs, reaches, strict=True)
    ]
    boxes = [_squared(box) if cut else box for box, cut in zip(boxes, sliced, strict=True)]
    dead = any(use is not None and bool((use == 0).any()) for _, use, _ in pairs)
    handles = legend(words, dead=dead, latents=bool(latents), displacement=displacement, reach=bool(reach))
    ncols = {1: 2, 2: 2}.get(columns, 4)
    title = _wrapped(title, columns)
    lines = -(-len(handles) // ncols) + len(title.splitlines())
    aspect = max(float(np.divide(*np.ptp(box, axis=0)[::-1])) for box in boxes)
    wide = min(_WIDE, (DOUBLE_COLUMN - _SIDE) / columns) * scale
    figure = Figure(
        figsize=(
            columns * wide + _SIDE * scale,
            rows * (wide * aspect + 0.5 * scale) + (0.1 + 0.15 * lines) * scale,
        ),
        layout="constrained",
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    pairwise = len(grids) > 1 and len({grid.kind for grid in grids}) == 1  # else kinds side by side
    colours = shading([use for _, use, _ in pairs if use is not None])
    for index, (points, use, sample) in enumerate(pairs):
        name = titles[index] if titles else f"pair {index + 1}: " if pairwise and not sliced[index] else ""
        offsets = getattr(grids[index], "offsets", 0.0)
        draw_cells(axes[index], points, use, colours, boxes[index], offsets)
        if sample is not None and len(sample) > 1:
            draw_latents(axes[index], sample, boxes[index], reaches[index])
            if displacement:
                draw_displacement(axes[index], points, sample)
        draw_outline(axes[index], reaches[index])
        if saturation:
            draw_saturation(axes[index], saturation[index])
        axes[index].set_title(
            name + _describe(grids[index], points, histograms[index] if histograms else None)
        )
        axes[index].set(xlim=boxes[index][:, 0], ylim=boxes[index][:, 1])
        across, up = _AXES[sliced[index]]
        axes[index].set(
            xlabel=across if index + columns >= len(grids) else "", ylabel=up if index % columns == 0 else ""
        )
    for empty in axes[len(grids) :]:
        empty.set_axis_off()
    if colours is not None:
        bar = figure.colorbar(colours, ax=axes.tolist(), shrink=0.8, aspect=30, pad=0.015, extend="max")
        bar.set_label("use of a cell / uniform use")
        bar.outline.set_visible(False)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=ncols,
        handlelength=1.4,
        columnspacing=1.2,
    )
    if title:
        figure.suptitle(title)
    return figure


def grids_figure(views: Sequence[PlanarView], title: str, scale: float = 1.0) -> Figure:
    """The cells of pairs of channels alone, a panel each, without use or latents."""
    grids = [view.grid for view in views]
    return voronoi_figure(grids, title=title, reach=[view.reach for view in views], scale=scale)


def use_frame(grids: Sequence[PlanarGrid], histograms: Sequence[np.ndarray] = ()) -> pd.DataFrame:
    """The numbers behind the figure: pair, point, x, y, count, use (relative to uniform)."""
    import pandas as pd

    frames = []
    for index, grid in enumerate(grids):
        points = _points(grid)
        frame = pd.DataFrame(
            {"pair": index, "point": np.arange(len(points)), "x": points[:, 0], "y": points[:, 1]}
        )
        if len(histograms):
            counts = np.asarray(histograms[index])
            frame = frame.assign(count=counts, use=relative_use(counts))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def relative_use(counts: np.ndarray) -> np.ndarray:
    """Each code's probability divided by that of uniform use, `[n]`; all zero where nothing was counted."""
    total = counts.sum()
    return counts * (len(counts) / total) if total else np.zeros(len(counts))


def _check(grids: Sequence[PlanarGrid], histograms: Sequence[Any], latents: Sequence[Any]) -> None:
    if not grids:
        raise VoronoiError(
            "no planar grid to draw; the Voronoi plot is for quantizers that code pairs of channels"
        )
    for name, given in (("histograms", histograms), ("latents", latents)):
        if given and len(given) != len(grids):
            raise VoronoiError(f"{len(given)} {name} for {len(grids)} grids; give one per pair, or none")
    for index, (grid, counts) in enumerate(zip(grids, histograms, strict=False)):
        if len(counts) != len(_points(grid)):
            raise VoronoiError(
                f"pair {index + 1}: a histogram of {len(counts)} codes for a grid of "
                f"{len(_points(grid))} points; was the run made with other levels?"
            )


def _squared(box: np.ndarray) -> np.ndarray:
    """The box with its shorter sides moved out until it is a square."""
    half = np.ptp(box, axis=0).max() / 2
    return box.mean(axis=0) + np.array([[-half, -half], [half, half]])


def _wrapped(title: str, columns: int) -> str:
    """The title in lines that the figure's width holds."""
    import textwrap

    inches = columns * min(_WIDE, (DOUBLE_COLUMN - _SIDE) / columns) + _SIDE
    return "\n".join(textwrap.wrap(title, int(_LETTERS * inches)))


def _points(grid: PlanarGrid) -> np.ndarray:
    return np.asarray(grid.points, dtype=float)


def _pair(
    grids: Sequence[PlanarGrid], histograms: Sequence[np.ndarray], latents: Sequence[np.ndarray], index: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    use = relative_use(np.asarray(histograms[index])) if histograms else None
    sample = np.asarray(latents[index], dtype=float) if latents else None
    return _points(grids[index]), use, sample


def _describe(grid: PlanarGrid, points: np.ndarray, counts: np.ndarray | None) -> str:
    if note := getattr(grid, "note", ""):
        return str(note)
    levels = "×".join(str(level) for level in grid.levels)
    spacing = ", released spacing" if getattr(grid, "spacing", "ideal") == "released" else ""
    text = f"{grid.kind} {levels}{spacing}\n{len(points)} points, {np.log2(len(points)):.2f} bit"
    if counts is None:
        return text
    used = int((np.asarray(counts) > 0).sum())
    return f"{text}, {100 * used / len(points):.0f} % used"
