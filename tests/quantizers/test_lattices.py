"""Lattices against theory, and their decoders against brute force."""

import itertools
import math

import pytest
import torch

import quantizers
from quantizers.geometry import figures_of_merit as geometry
from quantizers.geometry.lattices import NAMES, Cosets, lattice
from quantizers.geometry.leech import WordSearch, golay, octads
from quantizers.methods.lattice import CubeBlock, VoronoiBlock

KISSING = {"Z": 2, "A2": 6, "A3*": 8, "D4": 24, "E8": 240, "Leech": 196_560, "released-hex": 2, "rhombic": 4}
# Packing density (SPLAG table 1.2) and covering thickness (table 2.1).
DENSITY = {"A2": math.pi / math.sqrt(12), "D4": math.pi**2 / 16, "E8": math.pi**4 / 384}
DENSITY["Leech"] = math.pi**12 / math.factorial(12)
THICKNESS = {"A2": 2 * math.pi / (3 * math.sqrt(3)), "A3*": 5 * math.sqrt(5) * math.pi / 24}
THICKNESS |= {"D4": math.pi**2 / 4, "E8": math.pi**4 / 24, "Leech": 4096 * math.pi**12 / math.factorial(12)}


@pytest.mark.parametrize("name", geometry.EXACT)
def test_figures_agree_with_theory(name: str) -> None:
    found = geometry.measure_lattice(name, samples=30_000 if name == "Leech" else 100_000)
    assert abs(found.second_moment - geometry.EXACT[name]) < 4 * found.error
    assert found.error < 5e-4
    assert found.kissing_number == KISSING[name]
    if name in DENSITY:
        assert math.isclose(found.packing_density, DENSITY[name], rel_tol=1e-9)
    if name in THICKNESS:
        assert math.isclose(found.thickness, THICKNESS[name], rel_tol=1e-9)


def test_published_constants() -> None:
    assert round(geometry.EXACT["D4"], 6) == 0.076603
    assert round(geometry.EXACT["E8"], 6) == 0.071682
    assert round(geometry.EXACT["A3*"], 6) == 0.078543


@pytest.mark.parametrize("name", NAMES)
def test_nearest_point_is_in_the_lattice_and_no_neighbour_is_nearer(name: str) -> None:
    shape = lattice(name)
    generator = torch.Generator().manual_seed(0)
    points = 5 * torch.randn(300, shape.dimension, generator=generator, dtype=torch.float64)
    points *= shape.volume ** (1 / shape.dimension)
    found = shape.nearest(points)
    coordinates = torch.linalg.solve(shape.basis.mT, found.mT).mT
    assert (coordinates - coordinates.round()).abs().max() < 1e-6
    distance = (points - found).square().sum(-1)
    # Differences of decoded points are lattice vectors: moving by any of them must not come nearer.
    near = shape.nearest(
        points + torch.randn(points.shape, generator=generator) * shape.volume ** (1 / shape.dimension)
    )
    moves = (near - found)[(near - found).abs().sum(-1) > 0]
    moved = (points[:, None] - found[:, None] - moves[None]).square().sum(-1)
    assert (moved.amin(1) >= distance - 1e-9).all()


@pytest.mark.parametrize("name", ["A2", "A3*", "D4"])
def test_nearest_point_against_brute_force(name: str) -> None:
    shape = lattice(name)
    n = shape.dimension
    box = torch.tensor(list(itertools.product(range(-3, 4), repeat=n)), dtype=torch.float64) @ shape.basis
    points = torch.rand(2000, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    best = torch.cdist(points, box).amin(1)
    assert torch.allclose((points - shape.nearest(points)).norm(dim=-1), best)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("Z", (5,)), ("A2", (4, 3)), ("A3*", (3, 4, 2)), ("D4", (3, 4, 5, 4)), ("E8", (2, 2, 1, 3, 2, 1, 2, 2))],
)
def test_cube_code_is_exactly_nearest(name: str, counts: tuple[int, ...]) -> None:
    block = CubeBlock(name, counts)
    every = torch.tensor(list(itertools.product(*(range(size) for size in block.sizes))))
    codebook = block.decode(every)
    assert len(codebook.unique(dim=0)) == math.prod(block.sizes)
    assert torch.equal(block.encode(codebook), every)
    points = (
        torch.randn(4000, len(counts), generator=torch.Generator().manual_seed(0)) * block.half_width.float()
    )
    found = (points - block.decode(block.encode(points))).square().sum(-1)
    best = torch.cdist(points.double(), codebook.double()).amin(1).square()
    assert torch.allclose(found.double(), best, atol=1e-4)


def test_golay_code() -> None:
    weights, numbers = golay().sum(1).unique(return_counts=True)
    assert dict(zip(weights.tolist(), numbers.tolist(), strict=True)) == {
        0: 1,
        8: 759,
        12: 2576,
        16: 759,
        24: 1,
    }
    assert torch.equal(golay()[:, :12] @ 2 ** torch.arange(11, -1, -1), torch.arange(4096))
    # A Steiner system S(5, 8, 24): five points are in exactly one octad.
    assert all(
        int((octads()[:, list(five)].sum(1) == 5).sum()) == 1
        for five in ((0, 1, 2, 3, 4), (3, 9, 14, 20, 23))
    )


@pytest.mark.parametrize(("totals", "modulo"), [((0, 1), True), ((1,), True), ((0,), True), ((1,), False)])
def test_cheapest_golay_word_against_all(totals: tuple[int, ...], modulo: bool) -> None:
    costs = torch.randn(len(totals), 24, 2, 2, 60, generator=torch.Generator().manual_seed(0))
    if modulo:
        costs[:, 5, :, 1] = 1e30  # a flag that cannot be up
    search = WordSearch(totals, modulo)
    kind, number = search(costs, search.blocks(torch.empty(60, 24))[1])
    best = torch.full((len(totals), 4096, 60), torch.inf)
    for index, total in enumerate(totals):
        down, up = torch.zeros(4096, 60), torch.full((4096, 60), torch.inf)
        for coordinate in range(24):
            low, high = costs[index, coordinate, golay()[:, coordinate]].unbind(1)
            joined = torch.minimum(up + low, down + high)
            down, up = torch.minimum(down + low, up + high) if modulo else down + low, joined
        best[index] = up if total else down
    found = best[kind, number, torch.arange(60)]
    assert torch.allclose(found, best.amin((0, 1)), atol=1e-4)
    assert len(number.unique()) > 40


@pytest.mark.parametrize("counts", [None, (1,) * 23 + (2,), (2,) * 24, (3, 4) * 12, (9,) * 23 + (8,)])
def test_the_leech_search_finds_what_trying_all_cosets_finds(counts: tuple[int, ...] | None) -> None:
    cosets = Cosets(lattice("Leech"), counts)
    spread = 8.0 if counts is None else 2.0 * sum(counts) / 24
    points = spread * torch.randn(150, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points[0] = 0.0
    found = cosets.nearest(points)[0]
    every = cosets._best_of_all(points)
    nearest = cosets._in_coset(points, cosets.offsets[every], cosets.parities[every])[0]
    assert torch.allclose((points - found).square().sum(1), (points - nearest).square().sum(1), rtol=1e-12)
    assert cosets.nearest(points[:0])[0].shape == (0, 24)
    low = cosets.float().nearest(points.float())[0].double()
    assert torch.allclose((points - low).square().sum(1), (points - nearest).square().sum(1), rtol=1e-5)


def test_cube_code_of_the_leech_lattice_is_exactly_nearest() -> None:
    block = CubeBlock("Leech", (1,) * 23 + (2,))
    words = torch.arange(8192).unsqueeze(1)
    every = torch.cat((words, torch.zeros(8192, 24, dtype=torch.int64)), 1)
    codebook = block.decode(every)
    points = 2 * torch.randn(500, 24, generator=torch.Generator().manual_seed(0))
    found = (points - block.decode(block.encode(points))).norm(dim=-1)
    assert torch.allclose(found, torch.cdist(points, codebook).amin(1), atol=1e-3)


@pytest.mark.parametrize(("name", "count"), [("A2", 4), ("A3*", 3), ("D4", 3), ("E8", 3)])
def test_voronoi_code(name: str, count: int) -> None:
    block = VoronoiBlock(name, (count,))
    every = torch.tensor(list(itertools.product(*(range(size) for size in block.sizes))))
    codebook = block.decode(every)
    assert len(codebook.round(decimals=4).unique(dim=0)) == count ** lattice(name).dimension
    assert torch.equal(block.encode(codebook.double()), every)
    # Inside the enlarged cell, away from its faces, the code point is the nearest lattice point.
    points = (
        0.2
        * block.half_width
        * torch.randn(500, lattice(name).dimension, generator=torch.Generator().manual_seed(0))
    )
    assert torch.allclose(
        block.decode(block.encode(points)), lattice(name).nearest(points).float(), atol=1e-5
    )
    far = (
        10
        * block.half_width
        * torch.randn(200, lattice(name).dimension, generator=torch.Generator().manual_seed(0))
    )
    pulled = block.decode(block.encode(far)).double()
    assert ((pulled * far).sum(-1) > 0).float().mean() > 0.9  # towards the point, not round to the other side


@pytest.mark.parametrize("bound", ["cube", "voronoi"])
@pytest.mark.parametrize("name", ["Z", "A2", "A3*", "D4", "E8"])
def test_lattice_quantizers_round_trip(name: str, bound: str) -> None:
    quantizer = quantizers.create("lattice", dim=16, bits=24.0, lattice=name, bound=bound).eval()
    assert abs(quantizer.bits_per_frame / 24 - 1) < 0.02
    out = quantizer(3 * torch.randn(2, 100, 16, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(quantizer.decode(out.codes), out.features)
    assert math.prod(quantizer.factor_sizes) == math.prod(quantizer.codebook_sizes)
    assert (quantizer.factors(out.codes) < torch.tensor(quantizer.factor_sizes)).all()


def test_leech_quantizer_round_trips() -> None:
    quantizer = quantizers.create("lattice", dim=16, bits=48.0, lattice="Leech").eval()
    assert abs(quantizer.bits_per_frame / 48 - 1) < 0.02
    out = quantizer(torch.randn(1, 40, 16, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(quantizer.decode(out.codes), out.features)


def test_finite_grids_on_a_uniform_source() -> None:
    rect = geometry.measure_grid("rect", "ideal", 6.34, "uniform", samples=50_000)
    assert abs(rect.cell - 1 / 3 / 81) < 4 * rect.error  # 9 equal cells an axis: (2/9)^2 / 12 a channel
    assert rect.edge > 1.2 * rect.cell
    assert abs(rect.scale - 1) < 0.01
