import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from analysis.figures.cells import lattices as lattice_cells
from analysis.figures.cells.lattices import LatticeError, cell, lattice_figure, lattice_frame, plane_points
from analysis.figures.cells.power_diagram import power_cells
from analysis.figures.style import style
from quantizers.geometry.lattices import lattice

BOX = np.array([[-2.0, -1.5], [2.0, 1.5]])


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) if len(polygon) else 0.0


def margin(polygon: np.ndarray, points: np.ndarray) -> float:
    """How far the worst of `points` is outside of a convex polygon; negative inside."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    outward = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.linalg.norm(edges, axis=1, keepdims=True)
    return float(((points[:, None] - polygon) * outward).sum(axis=2).max())


@pytest.mark.parametrize(("codes", "dimensions"), [(12, 2), (39, 5), (300, 2), (300, 5), (1024, 64)])
def test_a_slice_is_what_nearest_codes_say(codes: int, dimensions: int) -> None:
    """On a dense grid of the plane, the nearest code of all dimensions is that of the cell."""
    book = np.random.default_rng(codes).normal(size=(codes, dimensions)) * 0.9 ** np.arange(dimensions)
    polygons = power_cells(book[:, :2], (book[:, 2:] ** 2).sum(axis=1), BOX)
    assert sum(map(area, polygons)) == pytest.approx(12.0, rel=1e-9)
    across, up = np.linspace(-2, 2, 61), np.linspace(-1.5, 1.5, 61)
    plane = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    vectors = torch.tensor(np.pad(plane, ((0, 0), (0, dimensions - 2))))
    nearest = torch.cdist(vectors, torch.tensor(book)).argmin(1).numpy()
    for code in np.unique(nearest):
        assert margin(polygons[code], plane[nearest == code]) < 1e-6
    assert set(np.unique(nearest)) <= {code for code, polygon in enumerate(polygons) if len(polygon)}


def test_sites_in_a_row_and_sites_without_a_cell() -> None:
    row = np.stack([np.linspace(-1.8, 1.8, 60), np.zeros(60)], axis=1)
    areas = [area(polygon) for polygon in power_cells(row, 0.0, BOX)]
    np.testing.assert_allclose(areas[1:-1], 3.6 / 59 * 3, rtol=1e-9)
    two = np.array([[0.0, 0.0], [0.1, 0.0]])
    assert [len(polygon) for polygon in power_cells(two, np.array([0.0, 50.0]), BOX)] == [4, 0]


@pytest.mark.parametrize("name", ["A2", "D4", "E8"])
def test_slices_of_lattices(name: str) -> None:
    feet, offsets = plane_points(name, 1.5)
    polygons = power_cells(feet, offsets, np.array([[-1.5, -1.5], [1.5, 1.5]]))
    plane = np.random.default_rng(0).uniform(-1.5, 1.5, (4000, 2))
    vectors = torch.zeros(4000, lattice(name).dimension, dtype=torch.float64)
    vectors[:, :2] = torch.tensor(plane)
    nearest = lattice(name).nearest(vectors).numpy()
    found = np.column_stack([nearest[:, :2], (nearest[:, 2:] ** 2).sum(axis=1)])
    for site, polygon in zip(np.column_stack([feet, offsets]), polygons, strict=True):
        mine = plane[np.abs(found - site).max(axis=1) < 1e-6]
        if len(mine):
            assert margin(polygon, mine) < 1e-9


@pytest.mark.parametrize(("name", "sides"), [("Z", [4] * 6), ("A3*", [4] * 6 + [6] * 8)])
def test_cells_of_three_dimensions(name: str, sides: list[int]) -> None:
    shape = cell(name)
    assert sorted(len(face) for face in shape.faces) == sides
    assert ConvexHull(np.concatenate(shape.faces)).volume == pytest.approx(lattice(name).volume)
    for face, neighbour in zip(shape.faces, shape.neighbours, strict=True):
        np.testing.assert_allclose(face @ neighbour, (neighbour**2).sum() / 2)


def test_every_lattice_is_drawn_or_refused() -> None:
    with style("paper") as scale:
        for name in lattice_cells.drawable():
            assert lattice_figure(name, scale).axes
            assert len(lattice_frame(name)) > 3
    assert "slice" in lattice_figure("E8").get_suptitle()
    with pytest.raises(LatticeError, match="24 dimensions"):
        lattice_figure("Leech")
    with pytest.raises(LatticeError, match="known: Z, A2"):
        lattice_figure("B7")
