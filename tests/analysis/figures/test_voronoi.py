from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures.cells import grids as geometry
from analysis.figures.cells.panel import centroids, draw_latents
from analysis.figures.cells.power_diagram import power_cells
from analysis.figures.cells.voronoi import VoronoiError, box_around, relative_use, use_frame, voronoi_figure
from analysis.figures.style import StyleError, save, style
from quantizers import registry
from quantizers.methods.q2d2 import Q2D2

NAMES = ["q2d2-hex", "q2d2-rect", "q2d2-rhombic", "q2d2-hex-released"]


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def points_of(name: str, levels: tuple[int, int] = (7, 7)) -> np.ndarray:
    return geometry.planar_grids(name, levels)[0].points.double().numpy()


@pytest.mark.parametrize("name", NAMES)
def test_cells_tile_the_box(name: str) -> None:
    points = points_of(name)
    box = box_around(points)
    polygons = power_cells(points, 0.0, box)
    assert len(polygons) == len(points)
    assert sum(map(area, polygons)) == pytest.approx(np.prod(np.ptp(box, axis=0)), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_cells_agree_with_the_nearest_point(name: str) -> None:
    """The share of uniform samples that the quantizer gives to a point is the area of its cell."""
    grid = geometry.planar_grids(name, (5, 5))[0]
    box = box_around(grid.points.double().numpy())
    sample = np.random.default_rng(0).uniform(box[0], box[1], (200_000, 2))
    counted = np.bincount(
        grid.nearest(torch.tensor(sample, dtype=torch.float32)).numpy(), minlength=grid.size
    )
    areas = np.array([area(polygon) for polygon in power_cells(grid.points.double().numpy(), 0.0, box)])
    np.testing.assert_allclose(counted / counted.sum(), areas / areas.sum(), atol=0.002)


def test_inner_cells_have_the_lattice_area() -> None:
    for name, expected in (("q2d2-hex", np.sqrt(3) / 2), ("q2d2-rect", 1.0), ("q2d2-rhombic", 0.5)):
        points = points_of(name, (9, 9))
        inner = int(np.argmin((points**2).sum(axis=1)))
        assert area(power_cells(points, 0.0, box_around(points))[inner]) == pytest.approx(expected, rel=1e-6)


def test_use_and_centroids() -> None:
    np.testing.assert_allclose(relative_use(np.array([0, 2, 2, 4])), [0, 1, 1, 2])
    assert not relative_use(np.zeros(3)).any()
    means = centroids(
        np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]]), np.array([[0.5, 0.0], [-0.1, 0.2], [2.5, 0.5]])
    )
    np.testing.assert_allclose(means[:2], [[0.2, 0.1], [2.5, 0.5]])
    assert np.isnan(means[2]).all()


def figure(dead: bool = True) -> Figure:
    grids = geometry.planar_grids("q2d2-hex", (5, 5, 7, 7))
    reach = [view.reach for view in geometry.views_of_levels("q2d2-hex", (5, 5, 7, 7))]
    generator = np.random.default_rng(1)
    latents = [np.tanh(generator.normal(size=(3000, 2)) * (0.2 if dead else 1.0)) * half for half in reach]
    counts = [
        np.bincount(grid.nearest(torch.tensor(x, dtype=torch.float32)).numpy(), minlength=grid.size)
        for grid, x in zip(grids, latents, strict=True)
    ]
    return voronoi_figure(grids, counts, latents, "title", reach=reach, displacement=True)


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_bytes_are_reproducible(kind: str, tmp_path: Path) -> None:
    pages = []
    for turn in ("first", "second"):
        with style("paper"):
            (path,) = save(figure(), tmp_path / turn, [kind])
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]
    assert len(pages[0]) < 600_000


@pytest.mark.parametrize("name", ["paper", "talk", "web"])
@pytest.mark.parametrize("pairs", [1, 2, 3, 6])
def test_nothing_is_clipped_or_overlaps(name: str, pairs: int) -> None:
    grids = geometry.planar_grids("q2d2-rhombic", (7, 7) * pairs)
    counts = [np.arange(grid.size) for grid in grids]
    latents = [np.random.default_rng(0).normal(size=(400, 2)) for _ in grids]
    reach = [view.reach for view in geometry.views_of_levels("q2d2-rhombic", (7, 7) * pairs)]
    with style(name) as scale:
        drawn = voronoi_figure(grids, counts, latents, "a title", reach=reach, displacement=True, scale=scale)
        canvas = FigureCanvasAgg(drawn)
        canvas.draw()
        renderer = canvas.get_renderer()
        page = drawn.bbox
        boxes = [axes.get_tightbbox(renderer) for axes in drawn.axes]
        boxes += [legend.get_window_extent(renderer) for legend in drawn.legends]
        boxes.append(drawn._suptitle.get_window_extent(renderer))  # type: ignore[attr-defined]
    for box in boxes:
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert box.y0 >= page.y0 - 1
        assert box.y1 <= page.y1 + 1
    for place, box in enumerate(boxes):
        for other in boxes[place + 1 :]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(width, height) <= 1


def test_without_a_study(tmp_path: Path) -> None:
    grids = geometry.planar_grids("q2d2-hex", (7, 7))
    with style("web"):
        (path,) = save(voronoi_figure(grids), tmp_path / "hex", ["svg"])
    assert "<text" not in path.read_text()  # drawn as paths, so that every machine shows the same
    assert list(use_frame(grids).columns) == ["pair", "point", "x", "y"]
    assert len(use_frame(grids)) == 45


def test_mistakes_are_told() -> None:
    grids = geometry.planar_grids("q2d2-rect", (3, 3))
    with pytest.raises(VoronoiError, match="no planar grid"):
        voronoi_figure([])
    with pytest.raises(VoronoiError, match="8 codes for a grid of 9"):
        voronoi_figure(grids, [np.ones(8)])
    with pytest.raises(VoronoiError, match="2 latents for 1 grids"):
        voronoi_figure(grids, [np.ones(9)], [np.ones((1, 2))] * 2)
    with pytest.raises(geometry.GeometryError, match="q2d2-rhombic"):
        geometry.planar_grids("vq", (3, 3))
    with pytest.raises(geometry.GeometryError, match="pairs"):
        geometry.planar_grids("q2d2-rect", (3, 3, 3))
    with pytest.raises(StyleError, match="paper, talk, web"), style("poster"):
        pass


def test_grids_of_a_run() -> None:
    run = {"quantizer": "q2d2-rect", "param/quantizer.options.levels": "[9, 9, 7, 7]"}
    assert [grid.size for grid in geometry.grids_of(run)] == [81, 49]
    assert geometry.reach_of(run) == [(4.5, 4.5), (3.5, 3.5)]
    released = {"quantizer": "q2d2-hex-released", "param/quantizer.options.levels": "[7, 7]"}
    assert geometry.grids_of(released)[0].size == 49
    assert geometry.reach_of(released)[0] == pytest.approx((3.003, 3.003))  # 1.001 of it, as released
    assert geometry.grids_of({"quantizer": "fsq"}) == ()


def test_a_planar_quantizer_is_known_by_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in's subclass of Q2D2 has cells under any name."""

    class Snowflake(Q2D2):
        pass

    registry.available()
    entry = registry.Entry("snowflake", Snowflake, {"grid": "hex"})
    monkeypatch.setitem(registry._entries, "snowflake", entry)
    run = {"quantizer": "snowflake", "param/quantizer.options.levels": "[7, 7, 5, 5]"}
    assert [grid.size for grid in geometry.grids_of(run)] == [
        grid.size for grid in geometry.planar_grids("q2d2-hex", (7, 7, 5, 5))
    ]
    assert geometry.reach_of(run)[0] == pytest.approx((3.5, 3.5 * np.sqrt(3) / 2))
    assert geometry.grids_of({**run, "quantizer": "not-installed-here"}) == ()


def test_latents_that_all_lie_outside_of_the_picture_have_no_contours() -> None:
    axes = Figure().subplots()
    box = np.array([[-1.0, -1.0], [1.0, 1.0]])
    draw_latents(axes, np.full((50, 2), 9.0) + np.random.default_rng(0).random((50, 2)), box, None)
    assert len(axes.collections) == 1  # the dots
