"""Voronoi cells of planar grids: geometry, use of each cell, density of the latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

CELL = "#E8EEF4"
EDGE = "#6B7785"
DENSITY = "#D55E00"
SHIFT = "#009E73"
BINS = 160  # of the density, along each axis
SHOWN = 1500  # latents drawn as dots
MASSES = (0.5, 0.9)  # of the latents inside each density contour
_COLUMNS = 4


class PlanarGrid(Protocol):
    """What a plot needs of a grid; `quantizers.grids` has them. `points` is `[n, 2]`."""

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


def cells(points: np.ndarray, box: np.ndarray) -> list[np.ndarray]:
    """The Voronoi cell of each point inside the box, as polygons `[corners, 2]`.

    The points are mirrored at the four sides of the box: the sides then are cell boundaries, so that the
    cells of the original points are bounded and end exactly there.
    """
    from scipy.spatial import Voronoi

    left, right = points * [-1, 1] + [2 * box[0, 0], 0], points * [-1, 1] + [2 * box[1, 0], 0]
    below, above = points * [1, -1] + [0, 2 * box[0, 1]], points * [1, -1] + [0, 2 * box[1, 1]]
    diagram = Voronoi(np.concatenate([points, left, right, below, above]))
    polygons = []
    for index in range(len(points)):
        corners = diagram.vertices[diagram.regions[diagram.point_region[index]]]
        middle = corners.mean(axis=0)
        order = np.argsort(np.arctan2(*(corners - middle).T[::-1]), kind="stable")
        polygons.append(np.clip(corners[order], box[0], box[1]))
    return polygons


def voronoi_figure(
    grids: Sequence[PlanarGrid],
    histograms: Sequence[np.ndarray] = (),
    latents: Sequence[np.ndarray] = (),
    title: str = "",
    *,
    reach: Sequence[tuple[float, float]] = (),
    displacement: bool = False,
    scale: float = 1.0,
) -> Figure:
    """One panel a grid. Call it inside `style.style`.

    Args:
        grids: the planar grids of a quantizer, one a pair.
        histograms: counts of each grid's points, `[n]`, in the order of `points`; empty for geometry only.
        latents: pre-quantization coordinates in grid units, `[samples, 2]` each; empty for none.
        title: of the figure.
        reach: half width and half height of the rectangle that latents can reach, one a pair.
        displacement: draw a line from each point to the mean of the latents in its cell.
        scale: factor on the size in inches, as `style.style` yields it.

    Raises:
        VoronoiError: lengths that don't match.
    """
    from matplotlib.figure import Figure

    _check(grids, histograms, latents)
    columns = min(len(grids), _COLUMNS)
    rows = -(-len(grids) // columns)
    pairs = [_pair(grids, histograms, latents, index) for index in range(len(grids))]
    reaches: list[Any] = list(reach) or [None] * len(grids)
    boxes = [
        box_around(points, sample, half) for (points, _, sample), half in zip(pairs, reaches, strict=True)
    ]
    aspect = max(float(np.divide(*np.ptp(box, axis=0)[::-1])) for box in boxes)
    wide = 2.25 * scale
    figure = Figure(
        figsize=(columns * wide + 0.75 * scale, rows * (wide * aspect + 0.35 * scale) + 0.5 * scale),
        layout="constrained",
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    pairwise = len(grids) > 1 and len({grid.kind for grid in grids}) == 1  # else kinds side by side
    shading = _shading([use for _, use, _ in pairs if use is not None])
    for index, (points, use, sample) in enumerate(pairs):
        name = f"pair {index + 1}: " if pairwise else ""
        _panel(axes[index], points, use, shading, boxes[index])
        if sample is not None and len(sample) > 1:
            _latents(axes[index], sample, boxes[index], reaches[index])
            if displacement:
                _displacement(axes[index], points, sample)
        _outline(axes[index], reaches[index])
        axes[index].set_title(
            name + _describe(grids[index], points, histograms[index] if histograms else None)
        )
        axes[index].set(xlim=boxes[index][:, 0], ylim=boxes[index][:, 1])
    for empty in axes[len(grids) :]:
        empty.set_axis_off()
    if shading is not None:
        bar = figure.colorbar(shading, ax=axes.tolist(), shrink=0.8, aspect=30, pad=0.015, extend="max")
        bar.set_label("use of a cell / uniform use")
        bar.outline.set_visible(False)
    dead = any(use is not None and bool((use == 0).any()) for _, use, _ in pairs)
    handles = _legend(dead=dead, latents=bool(latents), displacement=displacement, reach=bool(reach))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols={1: 2, 2: 4}.get(columns, len(handles)),
        handlelength=1.4,
        columnspacing=1.2,
    )
    if title:
        figure.suptitle(title)
    return figure


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
            raise VoronoiError(f"{len(given)} {name} for {len(grids)} grids; give one a pair, or none")
    for index, (grid, counts) in enumerate(zip(grids, histograms, strict=False)):
        if len(counts) != len(_points(grid)):
            raise VoronoiError(
                f"pair {index + 1}: a histogram of {len(counts)} codes for a grid of "
                f"{len(_points(grid))} points; was the run made with other levels?"
            )


def _points(grid: PlanarGrid) -> np.ndarray:
    return np.asarray(grid.points, dtype=float)


def _pair(
    grids: Sequence[PlanarGrid], histograms: Sequence[np.ndarray], latents: Sequence[np.ndarray], index: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    use = relative_use(np.asarray(histograms[index])) if histograms else None
    sample = np.asarray(latents[index], dtype=float) if latents else None
    return _points(grids[index]), use, sample


def _shading(uses: list[np.ndarray]) -> ScalarMappable | None:
    """One scale for all panels: from no use to the 98th percentile, and at least to twice uniform."""
    if not uses:
        return None
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    top = max(2.0, float(np.percentile(np.concatenate(uses), 98)))
    ramp = LinearSegmentedColormap.from_list("use", ["#F7FBFF", "#9ECAE1", "#3182BD", "#08306B"])
    return ScalarMappable(Normalize(0, top), ramp)


def _panel(
    axes: Axes,
    points: np.ndarray,
    use: np.ndarray | None,
    shading: ScalarMappable | None,
    box: np.ndarray,
) -> None:
    from matplotlib.collections import PolyCollection

    polygons = cells(points, box)
    colours: Any = CELL if use is None or shading is None else shading.to_rgba(use)
    axes.add_collection(PolyCollection(polygons, facecolors=colours, edgecolors=EDGE, linewidths=0.5))
    if use is not None and (use == 0).any():
        dead = [polygon for polygon, value in zip(polygons, use, strict=True) if value == 0]
        axes.add_collection(
            PolyCollection(
                dead, facecolors="white", edgecolors=EDGE, hatch="//////", linewidths=0.5, hatch_linewidth=0.4
            )
        )
    size = np.clip(600 / len(points), 1.5, 9)
    axes.scatter(points[:, 0], points[:, 1], s=size, c="black", edgecolors="white", linewidths=0.3, zorder=4)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=2, pad=2)


def _latents(axes: Axes, sample: np.ndarray, box: np.ndarray, reach: tuple[float, float] | None) -> None:
    """Dots, and the smallest regions that hold the `MASSES` of the latents."""
    from scipy.ndimage import gaussian_filter

    shown = sample[:: -(-len(sample) // SHOWN)]
    axes.scatter(
        shown[:, 0], shown[:, 1], s=1.0, c=DENSITY, alpha=0.5, linewidths=0, rasterized=True, zorder=2.5
    )
    if reach is not None:  # smoothing must not carry mass to where no latent can be
        box = np.stack([np.negative(reach), reach])
    counts, x, y = np.histogram2d(sample[:, 0], sample[:, 1], bins=BINS, range=box.T.tolist())
    # Scott's rule in two dimensions, with a spread that outliers don't widen.
    spread = np.minimum(sample.std(axis=0), np.ptp(np.percentile(sample, [25, 75], axis=0), axis=0) / 1.35)
    widths = spread * len(sample) ** (-1 / 6) * BINS / np.ptp(box, axis=0)
    density = gaussian_filter(counts, np.clip(widths, 1, BINS / 20).tolist(), mode="reflect")
    falling = np.sort(density.ravel())[::-1]
    inside = np.cumsum(falling) / falling.sum()
    levels = sorted({float(falling[np.searchsorted(inside, mass)]) for mass in MASSES})
    axes.contour(
        (x[:-1] + x[1:]) / 2,
        (y[:-1] + y[1:]) / 2,
        density.T,
        levels=levels,
        colors=DENSITY,
        linewidths=[0.8, 1.4][: len(levels)],
        zorder=3,
    )


def centroids(points: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """The mean of the latents in each point's cell, `[n, 2]`; NaN for a cell without any."""
    from scipy.spatial import cKDTree

    nearest = cKDTree(points).query(sample)[1]
    count = np.bincount(nearest, minlength=len(points)).astype(float)
    count[count == 0] = np.nan
    sums = [np.bincount(nearest, weights=sample[:, axis], minlength=len(points)) for axis in (0, 1)]
    return np.stack(sums, axis=1) / count[:, None]


def _displacement(axes: Axes, points: np.ndarray, sample: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    means = centroids(points, sample)
    known = np.isfinite(means[:, 0])
    segments = np.stack([points[known], means[known]], axis=1)
    axes.add_collection(LineCollection(list(segments), colors=SHIFT, linewidths=1.0, zorder=3.5))


def _describe(grid: PlanarGrid, points: np.ndarray, counts: np.ndarray | None) -> str:
    levels = "×".join(str(level) for level in grid.levels)
    spacing = ", released spacing" if getattr(grid, "spacing", "ideal") == "released" else ""
    text = f"{grid.kind} {levels}{spacing}\n{len(points)} points, {np.log2(len(points)):.2f} bit"
    if counts is None:
        return text
    used = int((np.asarray(counts) > 0).sum())
    return f"{text}, {100 * used / len(points):.0f} % used"


def _outline(axes: Axes, reach: tuple[float, float] | None) -> None:
    from matplotlib.patches import Rectangle

    if reach is not None:
        corner, width, height = (-reach[0], -reach[1]), 2 * reach[0], 2 * reach[1]
        axes.add_patch(
            Rectangle(corner, width, height, fill=False, linestyle=(0, (4, 2)), linewidth=0.9, zorder=3.2)
        )


def _legend(*, dead: bool, latents: bool, displacement: bool, reach: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def dot(colour: str, size: float, label: str) -> Line2D:
        return Line2D([], [], color=colour, marker="o", linestyle="", markersize=size, label=label)

    handles: list[Any] = [dot("black", 3, "grid point")]
    if reach:
        handles.append(
            Line2D([], [], color="black", linewidth=0.9, linestyle=(0, (4, 2)), label="reach of tanh")
        )
    if dead:
        handles.append(Patch(facecolor="white", edgecolor=EDGE, hatch="//////", label="dead cell"))
    if latents:
        inner, outer = (f"{100 * mass:.0f} %" for mass in MASSES)
        handles.append(dot(DENSITY, 1.5, f"latent (at most {SHOWN:,})"))
        handles.append(Line2D([], [], color=DENSITY, linewidth=1.4, label=f"holds {inner} of latents"))
        handles.append(Line2D([], [], color=DENSITY, linewidth=0.8, label=f"holds {outer}"))
        if displacement:
            handles.append(Line2D([], [], color=SHIFT, linewidth=1.0, label="to the cell's mean latent"))
    return handles
