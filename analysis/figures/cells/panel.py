"""Elements of a panel of cells: cells by use, latents, displacement, outline, legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.figures.cells.power_diagram import power_cells
from analysis.figures.cells.saturation import Saturation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

CELL = "#E8EEF4"
EDGE = "#6B7785"
DENSITY = "#D55E00"
SHIFT = "#009E73"
ALARM = "#B2182B"
BINS = 160  # of the density, along each axis
SHOWN = 1500  # latents drawn as dots
MASSES = (0.5, 0.9)  # of the latents inside each density contour


class Words(NamedTuple):
    """What the legend calls a point, one without a cell (if there are any), a hatched cell, and a dot."""

    point: str = "grid point"
    elsewhere: str = ""
    dead: str = "dead cell"
    latent: str = "latent"


GRID_WORDS = Words()


def shading(uses: list[np.ndarray]) -> ScalarMappable | None:
    """One scale for all panels: from no use to the 98th percentile, and at least to twice uniform."""
    if not uses:
        return None
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    top = max(2.0, float(np.percentile(np.concatenate(uses), 98)))
    ramp = LinearSegmentedColormap.from_list("use", ["#F7FBFF", "#9ECAE1", "#3182BD", "#08306B"])
    return ScalarMappable(Normalize(0, top), ramp)


def draw_cells(
    axes: Axes,
    points: np.ndarray,
    use: np.ndarray | None,
    colours: ScalarMappable | None,
    box: np.ndarray,
    offsets: np.ndarray | float = 0.0,
) -> None:
    """The cell of each point, shaded by its use, hatched where that is 0.

    offsets: of a power diagram; points without a cell are drawn small and grey.
    """
    from matplotlib.collections import PolyCollection

    polygons = power_cells(points, offsets, box)
    there = np.array([len(polygon) > 0 for polygon in polygons])
    fill: Any = CELL if use is None or colours is None else colours.to_rgba(use[there])
    drawn = [polygon for polygon in polygons if len(polygon)]
    axes.add_collection(PolyCollection(drawn, facecolors=fill, edgecolors=EDGE, linewidths=0.5))
    if use is not None and (use[there] == 0).any():
        dead = [polygon for polygon, value in zip(drawn, use[there], strict=True) if value == 0]
        axes.add_collection(
            PolyCollection(
                dead, facecolors="white", edgecolors=EDGE, hatch="//////", linewidths=0.5, hatch_linewidth=0.4
            )
        )
    size = np.clip(600 / there.sum(), 1.5, 9)
    x, y = points.T
    axes.scatter(x[~there], y[~there], s=0.8, c=EDGE, linewidths=0, zorder=2.2)
    axes.scatter(x[there], y[there], s=size, c="black", edgecolors="white", linewidths=0.3, zorder=4)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=2, pad=2)
    axes.locator_params(nbins=5)


def draw_saturation(axes: Axes, saturation: Saturation) -> None:
    """The shares beyond the outermost centres, in red where a channel is saturated."""
    axes.text(
        0.5,
        0.985,
        saturation.note,
        transform=axes.transAxes,
        ha="center",
        va="top",
        fontsize="x-small",
        color=ALARM if saturation.saturated else "black",
        weight="bold" if saturation.saturated else "normal",
        bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.0},
        zorder=6,
    )


def draw_latents(axes: Axes, sample: np.ndarray, box: np.ndarray, reach: tuple[float, float] | None) -> None:
    """Dots, and the smallest regions that hold the `MASSES` of the latents."""
    from scipy.ndimage import gaussian_filter

    shown = sample[:: -(-len(sample) // SHOWN)]
    axes.scatter(
        shown[:, 0], shown[:, 1], s=1.0, c=DENSITY, alpha=0.5, linewidths=0, rasterized=True, zorder=2.5
    )
    if reach is not None:  # smoothing must not carry mass to where no latent can be
        box = np.stack([np.negative(reach), reach])
    counts, x, y = np.histogram2d(sample[:, 0], sample[:, 1], bins=BINS, range=box.T.tolist())
    if not counts.any():  # all latents lie outside of what is shown
        return
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


def draw_displacement(axes: Axes, points: np.ndarray, sample: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    means = centroids(points, sample)
    known = np.isfinite(means[:, 0])
    segments = np.stack([points[known], means[known]], axis=1)
    axes.add_collection(LineCollection(list(segments), colors=SHIFT, linewidths=1.0, zorder=3.5))


def draw_outline(axes: Axes, reach: tuple[float, float] | None) -> None:
    from matplotlib.patches import Rectangle

    if reach is not None:
        corner, width, height = (-reach[0], -reach[1]), 2 * reach[0], 2 * reach[1]
        axes.add_patch(
            Rectangle(corner, width, height, fill=False, linestyle=(0, (4, 2)), linewidth=0.9, zorder=3.2)
        )


def legend(words: Words, *, dead: bool, latents: bool, displacement: bool, reach: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def dot(colour: str, size: float, label: str) -> Line2D:
        return Line2D([], [], color=colour, marker="o", linestyle="", markersize=size, label=label)

    handles: list[Any] = [dot("black", 3, words.point)]
    if words.elsewhere:
        handles.append(dot(EDGE, 1.5, words.elsewhere))
    if reach:
        handles.append(
            Line2D([], [], color="black", linewidth=0.9, linestyle=(0, (4, 2)), label="reach of tanh")
        )
    if dead:
        handles.append(Patch(facecolor="white", edgecolor=EDGE, hatch="//////", label=words.dead))
    if latents:
        inner, outer = (f"{100 * mass:.0f} %" for mass in MASSES)
        handles.append(dot(DENSITY, 1.5, f"{words.latent} (at most {SHOWN:,})"))
        handles.append(Line2D([], [], color=DENSITY, linewidth=1.4, label=f"holds {inner} of latents"))
        handles.append(Line2D([], [], color=DENSITY, linewidth=0.8, label=f"holds {outer}"))
        if displacement:
            handles.append(Line2D([], [], color=SHIFT, linewidth=1.0, label="to the cell's mean latent"))
    return handles
