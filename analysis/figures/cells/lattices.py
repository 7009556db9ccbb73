"""Cells of lattices: as solids in three dimensions, as slices by a plane in more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.figures.cells.panel import draw_cells
from analysis.figures.style import SINGLE_COLUMN
from quantizers.geometry.lattices import DIMENSIONS, lattice

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_DIMENSIONS = 8  # of a lattice that is sliced: its points near the plane are listed one by one
_WINDOW = 2.4  # half width of a slice, in edges of a cube of one cell's volume
_ROUND = 9  # decimals


class LatticeError(ValueError):
    """A lattice that can't be drawn; the message says why."""


class Cell(NamedTuple):
    """A Voronoi cell about the origin: faces, `[corners, 3]` each, and the neighbour across each."""

    faces: list[np.ndarray]
    neighbours: np.ndarray  # [faces, 3]


def drawable() -> tuple[str, ...]:
    """Names of the lattices that `lattice_figure` draws."""
    return tuple(name for name, dimension in DIMENSIONS.items() if dimension <= MOST_DIMENSIONS)


def lattice_figure(name: str, scale: float = 1.0) -> Figure:
    """Draw the cell of a lattice: a solid in three dimensions (a cube for Z), else its plane of two axes.

    Raises:
        LatticeError: an unknown lattice, or one with too many dimensions.
    """
    dimension = _dimension(name)
    if dimension == 3 or name == "Z":
        return _solid(name, scale)
    return _plane(name, scale)


def lattice_frame(name: str) -> pd.DataFrame:
    """The numbers behind `lattice_figure`.

    Of a solid: face, corner, x, y, z. Of a plane: point, x, y, offset (the squared distance from the plane).
    """
    import pandas as pd

    if _dimension(name) == 3 or name == "Z":
        rows = [
            (face, corner, *values)
            for face, polygon in enumerate(cell(name).faces)
            for corner, values in enumerate(polygon.tolist())
        ]
        return pd.DataFrame(rows, columns=["face", "corner", "x", "y", "z"])
    feet, offsets = plane_points(name, _half(name))
    return pd.DataFrame({"point": range(len(feet)), "x": feet[:, 0], "y": feet[:, 1], "offset": offsets})


def points_within(name: str, reach: np.ndarray) -> np.ndarray:
    """Points of the lattice within `reach` [n] of the origin along each axis; of Z, those of Z^n."""
    shape = lattice(name)
    steps = np.resize(shape.steps.numpy(), len(reach))
    found = []
    for coset, offset in enumerate(shape.offsets.numpy()):
        offset = np.resize(offset, len(reach))
        ranges = [
            np.arange(np.ceil((-far - at) / step - 1e-9), np.floor((far - at) / step + 1e-9) + 1)
            for at, step, far in zip(offset, steps, reach, strict=True)
        ]
        counts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(reach))
        if shape.parities is not None:
            counts = counts[counts.sum(axis=1) % 2 == int(shape.parities[coset])]
        found.append(offset + counts * steps)
    return np.concatenate(found)


def cell(name: str) -> Cell:
    """The Voronoi cell of a lattice of three dimensions (of Z: the cube) about the origin."""
    from scipy.spatial import Voronoi

    points = points_within(name, np.full(3, 2.01 * _longest(name)))
    points = points[np.argsort((points**2).sum(axis=1), kind="stable")]  # the origin first
    diagram = Voronoi(points)
    faces, neighbours = [], []
    for (one, other), corners in zip(diagram.ridge_points, diagram.ridge_vertices, strict=True):
        if 0 in (one, other):
            normal = points[other] + points[one]
            polygon = _in_turn(diagram.vertices[corners], normal)
            if len(polygon) > 2:
                faces.append(polygon)
                neighbours.append(normal)
    order = sorted(range(len(faces)), key=lambda face: tuple(neighbours[face].round(_ROUND)))
    return Cell([faces[face] for face in order], np.array([neighbours[face] for face in order]))


def plane_points(name: str, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Feet `[n, 2]` in the plane of the first two axes of the points near it, and their squared distances.

    Those whose cells can meet the plane's square of half width `half`.
    """
    shape = lattice(name)
    covering = float((shape.deep_hole - shape.nearest(shape.deep_hole)).norm()) + 1e-9
    reach = np.full(shape.dimension, covering)
    reach[:2] += half
    points = points_within(name, reach)
    offsets = (points[:, 2:] ** 2).sum(axis=1)
    near = offsets <= covering**2
    points, offsets = points[near], offsets[near].round(_ROUND)
    # Points mirrored at the plane have one foot and one distance: one of them stands for all.
    rows = np.unique(np.column_stack([points[:, :2].round(_ROUND), offsets]), axis=0)
    return rows[:, :2], rows[:, 2]


def _solid(name: str, scale: float) -> Figure:
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

    shape = cell(name)
    light = np.array([0.35, -0.8, 0.6]) / np.linalg.norm([0.35, -0.8, 0.6])
    normals = shape.neighbours / np.linalg.norm(shape.neighbours, axis=1, keepdims=True)
    shade = 0.62 + 0.38 * np.clip(normals @ light, 0, 1)
    base = np.array([0.80, 0.87, 0.94])
    figure = Figure(figsize=(SINGLE_COLUMN * scale, SINGLE_COLUMN * scale))
    axes: Any = figure.add_axes((0.0, 0.0, 1.0, 0.9), projection="3d")
    axes.add_collection3d(
        Poly3DCollection(
            shape.faces, facecolors=shade[:, None] * base, edgecolors="#2F3B46", linewidths=0.9 * scale
        )
    )
    axes.scatter(*shape.neighbours.T, s=12 * scale, color="#D55E00", depthshade=False)
    reach = float(np.abs(shape.neighbours).max()) * 1.02
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axes.set_box_aspect((1, 1, 1), zoom=1.25)
    axes.view_init(elev=22, azim=-58)
    axes.set_axis_off()
    sides = [len(face) for face in shape.faces]
    kinds = ", ".join(f"{sides.count(side)} faces of {side} sides" for side in sorted(set(sides)))
    figure.suptitle(f"{_title(name)}: cell, and the neighbours (orange)\nacross its faces; {kinds}", y=0.97)
    return figure


def _plane(name: str, scale: float) -> Figure:
    from matplotlib.figure import Figure

    dimension = _dimension(name)
    half = _half(name)
    feet, offsets = plane_points(name, half)
    figure = Figure(figsize=(SINGLE_COLUMN * scale, 1.08 * SINGLE_COLUMN * scale), layout="constrained")
    axes = figure.subplots()
    box = np.array([[-half, -half], [half, half]])
    draw_cells(axes, feet, None, None, box, offsets)
    above = offsets > 0
    axes.scatter(
        feet[above, 0],
        feet[above, 1],
        s=9 * scale,
        c="white",
        edgecolors="black",
        linewidths=0.7 * scale,
        zorder=5,
        clip_on=True,
    )
    axes.set(xlim=(-half, half), ylim=(-half, half), xlabel="axis 1", ylabel="axis 2")
    if dimension == 2:
        figure.suptitle(f"{name}: cells of the lattice")
    else:
        figure.suptitle(
            f"{name}: slice by the plane of axes 1 and 2 of {dimension}\n"
            "open: points beside the plane, at their feet"
        )
    return figure


def _dimension(name: str) -> int:
    if name not in DIMENSIONS:
        raise LatticeError(f"no lattice {name!r}; known: {', '.join(drawable())}")
    if DIMENSIONS[name] > MOST_DIMENSIONS:
        raise LatticeError(
            f"{name} has {DIMENSIONS[name]} dimensions: too many points lie near a plane to list them; "
            f"drawn are {', '.join(drawable())}"
        )
    return DIMENSIONS[name]


def _half(name: str) -> float:
    return float(_WINDOW * lattice(name).volume ** (1 / _dimension(name)))


def _longest(name: str) -> float:
    return float(lattice(name).period.max())


def _title(name: str) -> str:
    return {"Z": "Z³", "A3*": "A3* (body-centred cubic)"}.get(name, name)


def _in_turn(corners: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Corners of a convex face in order around `normal`, each once."""
    corners = corners[np.unique(corners.round(_ROUND), axis=0, return_index=True)[1]]
    axis = normal / np.linalg.norm(normal)
    first = next(v for v in np.eye(3) if abs(v @ axis) < 0.9)
    first = first - (first @ axis) * axis
    second = np.cross(axis, first)
    outward = corners - corners.mean(axis=0)
    return corners[np.argsort(np.arctan2(outward @ second, outward @ first), kind="stable")]
