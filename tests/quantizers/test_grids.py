"""Planar grids: exactly nearest within the grid, against brute force; the lattices that they claim to be."""

import math

import pytest
import torch
from torch import Tensor

from quantizers.geometry.grids import ROW, PlanarGrid

GRIDS = [
    PlanarGrid("rect", (7, 7)),
    PlanarGrid("rect", (6, 9)),
    PlanarGrid("rect", (2, 2)),
    PlanarGrid("hex", (7, 7)),
    PlanarGrid("hex", (8, 11)),
    PlanarGrid("hex", (2, 3)),
    PlanarGrid("hex", (7, 7), "released"),
    PlanarGrid("hex", (6, 6), "released"),
    PlanarGrid("rhombic", (7, 7)),
    PlanarGrid("rhombic", (3, 9)),
]


def name(grid: PlanarGrid) -> str:
    return f"{grid.kind}-{grid.levels[0]}x{grid.levels[1]}-{grid.spacing}"


def brute_force(grid: PlanarGrid, points: Tensor) -> Tensor:
    """Least squared distance to any grid point, in float64."""
    listed = grid.points.double()
    parts = [(part.double()[:, None] - listed).square().sum(-1).amin(1) for part in points.split(20_000)]
    return torch.cat(parts)


@pytest.mark.parametrize("grid", GRIDS, ids=name)
def test_nearest_on_a_million_points(grid: PlanarGrid) -> None:
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([max(grid.levels) / 2 + 0.5])
    inside = (torch.rand(700_000, 2, generator=generator) * 2 - 1) * size
    outside = torch.randn(299_000, 2, generator=generator) * 4 * size
    listed = grid.points
    middles = ((listed[:, None] + listed) / 2).flatten(
        0, 1
    )  # ties between two points, where they are neighbours
    ties = middles[torch.randint(len(middles), (1000,), generator=generator)]
    points = torch.cat((inside, outside, ties))
    codes = grid.nearest(points)
    found = (points.double() - listed[codes].double()).square().sum(-1)
    best = brute_force(grid, points)
    # Float32 coordinates decide between points whose distances agree to rounding.
    assert ((found - best) <= 1e-6 * (1 + points.norm(dim=1) * 4)).all()
    assert codes.unique().numel() == grid.size


@pytest.mark.parametrize("grid", GRIDS, ids=name)
def test_points_are_distinct_and_their_own_nearest(grid: PlanarGrid) -> None:
    points = grid.points
    assert len({tuple(point) for point in points.tolist()}) == grid.size == len(points)
    assert torch.equal(grid.nearest(points), torch.arange(grid.size))


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid.spacing == "ideal"], ids=name)
def test_ideal_grids_are_symmetric(grid: PlanarGrid) -> None:
    points = {(round(x, 4) + 0.0, round(y, 4) + 0.0) for x, y in grid.points.tolist()}
    assert points == {(-x + 0.0, -y + 0.0) for x, y in points}
    assert points == {(-x + 0.0, y) for x, y in points}
    if grid.kind in ("hex", "rhombic"):
        assert (0.0, 0.0) in points


def test_hexagonal_grid_is_hexagonal() -> None:
    grid = PlanarGrid("hex", (9, 11))
    distances = torch.cdist(grid.points.double(), grid.points.double())
    inner = grid.points.norm(dim=1) < 3
    near = (distances < 1.2) & (distances > 0)
    assert (near[inner].sum(1) == 6).all()
    assert torch.allclose(distances[inner][near[inner]], torch.ones(1, dtype=torch.float64), atol=1e-6)


def test_released_hexagonal_grid_is_not() -> None:
    grid = PlanarGrid("hex", (9, 9), "released")
    assert not (grid.points.norm(dim=1) < 0.1).any()
    rows = grid.points[:, 1].unique()
    assert torch.equal(rows.diff(), torch.ones(8))
    assert math.isclose(grid.points[:, 0].mean().item(), 0.25 / 9, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("kind", "levels", "size"),
    [
        ("rect", (7, 8), 56),
        ("rhombic", (7, 7), 85),
        ("rhombic", (9, 9), 145),
        ("hex", (7, 7), 45),
        ("hex", (8, 9), 67),
    ],
)
def test_number_of_points(kind: str, levels: tuple[int, int], size: int) -> None:
    assert PlanarGrid(kind, levels).size == size


def test_extent_bounds_the_points() -> None:
    grid = PlanarGrid("hex", (8, 11))
    assert torch.allclose(grid.points.abs().amax(0), torch.tensor(grid.extent))
    assert math.isclose(grid.extent[1], 5 * ROW)
