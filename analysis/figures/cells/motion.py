"""Motion of latents of fixed crops during training: panels of some steps, and pictures for an animation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures.cells.panel import DENSITY, EDGE, Words, draw_outline, shading
from analysis.figures.cells.power_diagram import power_cells
from analysis.figures.cells.voronoi import PlanarGrid, box_around, relative_use, voronoi_figure
from analysis.figures.style import DOUBLE_COLUMN

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WORDS = Words(dead="cell without a latent", latent="latent of a fixed crop")


class MotionError(ValueError):
    """Snapshots that don't show a movement."""


def before_and_after_figure(
    grid: PlanarGrid,
    snapshots: Mapping[str, np.ndarray],
    *,
    pair: int = 0,
    reach: tuple[float, float] | None = None,
    title: str = "",
    scale: float = 1.0,
) -> Figure:
    """Draw the cells of one pair at the first, a middle and the last snapshot, shaded by their latents.

    grid: the grid of the pair. snapshots: from `Results.snapshots`. Call this function inside `style.style`.

    Raises:
        MotionError: fewer than two snapshots.
    """
    steps, latents = _of_pair(snapshots, pair)
    shown = sorted({0, _middle(steps), len(steps) - 1})
    samples = [latents[place] for place in shown]
    words = ["before training" if not steps[place] else f"after {steps[place]:,} steps" for place in shown]
    return voronoi_figure(
        [grid] * len(shown),
        [_counts(grid, sample) for sample in samples],
        samples,
        title,
        reach=[reach] * len(shown) if reach else (),
        displacement=True,
        titles=[f"{name}: " for name in words],
        words=WORDS,
        scale=scale,
    )


def movement_frame(snapshots: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row per pair and snapshot: pair, step, spread_x, spread_y (standard deviations), moved.

    moved: mean distance between the latents and their positions at the previous snapshot; 0 for the first.
    """
    import pandas as pd

    rows = []
    for pair in range(len(snapshots) - 1):
        steps, latents = _of_pair(snapshots, pair)
        before = latents[0]
        for step, sample in zip(steps, latents, strict=True):
            moved = float(np.linalg.norm(sample - before, axis=1).mean())
            rows.append((pair, step, *sample.std(axis=0).tolist(), moved))
            before = sample
    return pd.DataFrame(rows, columns=["pair", "step", "spread_x", "spread_y", "moved"])


def pictures(
    grid: PlanarGrid,
    snapshots: Mapping[str, np.ndarray],
    *,
    pair: int = 0,
    reach: tuple[float, float] | None = None,
    title: str = "",
    scale: float = 1.0,
    dpi: float = 110,
) -> Iterator[np.ndarray]:
    """Yield one picture per snapshot, `[height, width, 3]` uint8: the cells shaded by use, and the latents.

    Raises:
        MotionError: fewer than two snapshots.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

    steps, latents = _of_pair(snapshots, pair)
    points = np.asarray(grid.points, dtype=float)
    box = box_around(points, None, reach)
    uses = [relative_use(_counts(grid, sample)) for sample in latents]
    colours = shading(uses)
    assert colours is not None
    side = 0.5 * DOUBLE_COLUMN * scale
    tall = side * float(np.divide(*np.ptp(box, axis=0)[::-1])) + 0.55 * scale
    figure = Figure(figsize=(side, tall), dpi=dpi, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    cells = PolyCollection(power_cells(points, 0.0, box), edgecolors=EDGE, linewidths=0.5)
    axes.add_collection(cells)
    axes.scatter(*points.T, s=4, c="black", linewidths=0, zorder=4)
    dots = axes.scatter([], [], s=3.5, c=DENSITY, alpha=0.6, linewidths=0, zorder=3)
    draw_outline(axes, reach)
    axes.set(xlim=box[:, 0], ylim=box[:, 1], aspect="equal")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    for step, sample, use in zip(steps, latents, uses, strict=True):
        cells.set_facecolor(list(map(tuple, colours.to_rgba(use))))
        dots.set_offsets(sample)
        alive = int((use > 0).sum())
        axes.set_title(f"{title}\nstep {step:,}: latents in {alive} of {len(use)} cells")
        canvas.draw()
        figure.set_layout_engine("none")  # as laid out once: nothing jumps
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _of_pair(snapshots: Mapping[str, np.ndarray], pair: int) -> tuple[list[int], np.ndarray]:
    steps = [int(step) for step in snapshots.get("steps", [])]
    if len(steps) < 2:
        raise MotionError(f"{len(steps)} snapshots of the latents; two or more show how they move")
    return steps, snapshots[f"pair_{pair}"].astype(float)


def _middle(steps: Sequence[int]) -> int:
    """The snapshot nearest a tenth of the training, by when most has happened."""
    return int(np.argmin(np.abs(np.array(steps) - 0.1 * steps[-1])[1:-1])) + 1 if len(steps) > 2 else 0


def _counts(grid: PlanarGrid, sample: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    points = np.asarray(grid.points, dtype=float)
    return np.bincount(cKDTree(points).query(sample)[1], minlength=len(points))
