"""Learned lattices: the search for nearest points, and what the generator learns."""

import math

import pytest
import torch

import quantizers
from quantizers import QuantizerError
from quantizers.checks.start_table import gauss_markov
from quantizers.geometry.figures_of_merit import EXACT
from quantizers.geometry.lattices import DIMENSIONS, lattice
from quantizers.geometry.learned_lattices import STARTS, LearnedLattice, reduced


def learn(begin: str, n: int, steps: int = 150) -> LearnedLattice:
    """The lattice that uniform values lead to from `begin`."""
    made = LearnedLattice(n, begin)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    draw = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        loss = made.second_moment(20 * torch.rand(2048, n, generator=draw))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made


@pytest.mark.parametrize("name", STARTS[1:])
def test_nearest_points_are_those_of_the_lattice(name: str) -> None:
    n = DIMENSIONS[name]
    edge = lattice(name).volume ** (1 / n)
    made = LearnedLattice(n, name)
    basis = made.basis.detach()
    points = 3 * torch.randn(2000, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    error = (points - made.nearest(points, basis)).square().sum(-1)
    exact = (points - lattice(name).nearest(points * edge) / edge).square().sum(-1)
    # The weights are float32. In eight dimensions the bounded search misses a few points in a hundred.
    assert (error > exact + 1e-4).double().mean() < (0.05 if n == 8 else 1e-9)
    assert error.mean() < 1.01 * exact.mean()


def test_the_search_commutes_with_shifts_by_lattice_vectors() -> None:
    torch.manual_seed(0)
    made = LearnedLattice(3)
    with torch.no_grad():
        made.generator.add_(0.5 * torch.randn(3, 3))  # not reduced
    basis = made.basis.detach()
    points = torch.randn(500, 3, dtype=torch.float64)
    shift = torch.randint(-9, 10, (500, 3)).double() @ basis
    moved = made.nearest(points + shift, basis) - shift
    torch.testing.assert_close(moved, made.nearest(points, basis), atol=1e-9, rtol=0)


def test_uniform_values_lead_from_squares_to_hexagons() -> None:
    before = LearnedLattice(2).figure_of_merit(200_000)
    after = learn("cubic", 2).figure_of_merit(200_000)
    # Z has 0.08333 and A2, the best of the plane, 0.08019; the standard error of 200,000 points is 1e-4.
    assert before > 0.0825
    assert EXACT["A2"] - 4e-4 < after < 0.0806


def test_hexagons_stay() -> None:
    assert learn("A2", 2).figure_of_merit(200_000) < 0.0806


def test_three_dimensions_come_to_the_body_centred_cubic_lattice() -> None:
    assert learn("cubic", 3).figure_of_merit(100_000) < EXACT["A3*"] + 4e-4


def test_the_determinant_is_one_whatever_the_generator() -> None:
    made = LearnedLattice(4)
    with torch.no_grad():
        made.generator.mul_(7.0).add_(0.3 * torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.linalg.det(made.basis).abs().item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["D4", "E8"])
def test_a_reduced_basis_is_of_the_same_lattice_and_short(name: str) -> None:
    basis = lattice(name).basis
    short = reduced(basis)
    change = torch.linalg.solve(basis.mT, short.mT).mT
    torch.testing.assert_close(change, change.round(), atol=1e-9, rtol=0)
    assert torch.linalg.det(change).abs().item() == pytest.approx(1.0)
    assert short.norm(dim=1).max() == pytest.approx(math.sqrt(2)), "D4 and E8 have bases of minimal vectors"


def test_the_quantizer_learns_its_generator_and_no_gradient_of_it_reaches_the_input() -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create("learned-lattice", dim=4, counts=(12, 12))
    features = gauss_markov(4000, 4, 0.5, seed=0)
    quantizer.start(features)
    clips = features.view(1, -1, 4)
    optimizer = torch.optim.Adam(quantizer.lattice.parameters(), lr=0.02)
    before = quantizer.train()(clips).loss.item()
    for _ in range(40):
        loss = quantizer(clips).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert quantizer.project_in.weight.grad is None
    assert loss.item() < before - 0.001
    assert quantizer.lattice.figure_of_merit() < 0.0815
    out = quantizer.eval()(clips)
    assert out.loss.item() == 0
    assert torch.equal(quantizer.decode(out.codes), out.features)


def test_every_code_is_a_point_that_is_its_own_nearest() -> None:
    quantizer = quantizers.create("learned-lattice", dim=2, counts=(7,)).eval()
    codes = torch.arange(49).view(1, 49, 1)
    values = quantizer.channel_values(codes) * quantizer.scale
    assert len(values.flatten(0, 1).unique(dim=0)) == 49
    ((_, code),) = quantizer._codes()
    assert torch.equal(quantizer._joined(code.encode(values).unsqueeze(-2)), codes)


def test_rates_and_factors() -> None:
    small = quantizers.create("learned-lattice", dim=8, bits=20.0)
    assert small.factor_sizes == (100, 100, 100)
    assert small.estimates_rate(small.config)
    large = quantizers.create("learned-lattice", dim=8, dimension=4, bits=26.0)
    assert large.factor_sizes == (9,) * 4 + (10,) * 4
    assert not large.estimates_rate(large.config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": 9}, "dimension 9 is beyond 8"),
        ({"dimension": 1}, "dimension"),
        ({"begin": "E8"}, "begin E8 has 8 dimensions and dimension is 2"),
        ({"begin": "Leech"}, "begin"),
        ({"counts": (1,)}, "counts"),
        ({"counts": ()}, "counts"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(QuantizerError, match=message):
        quantizers.create("learned-lattice", dim=8, **options)
