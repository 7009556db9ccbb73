"""Pairs of channels as planes: by what a quantizer is, with the points and the reach that it has."""

import pytest
import torch

import quantizers
from quantizers import registry
from quantizers.methods.q2d2 import Q2D2

PLANAR = [f"q2d2-{grid}{end}" for end in ("", "-released") for grid in ("hex", "rect", "rhombic")]


@pytest.mark.parametrize("name", [*PLANAR, "fsq"])
@pytest.mark.parametrize("options", [{}, {"levels": (9, 9, 7, 7, 5, 5)}, {"range": "edge", "levels": (5, 5)}])
def test_codes_are_the_nearest_points_of_the_view(name: str, options: dict[str, object]) -> None:
    if name.endswith("-released") and "range" in options:
        pytest.skip("the name fixes the range")
    torch.manual_seed(0)  # of the weights
    quantizer = quantizers.create(name, dim=8, **options).eval()
    views = quantizers.planar_views(name, options)
    out = quantizer(9 * torch.randn(2, 200, 8, generator=torch.Generator().manual_seed(0)))
    coordinates, factors = out.diagnostics["coordinates"], quantizer.factors(out.codes)
    assert len(views) == coordinates.shape[-1] // 2
    assert sorted(factor for view in views for factor in view.factors) == list(range(factors.shape[-1]))
    for view in views:
        pair = coordinates[..., list(view.channels)]
        assert (pair.abs() <= torch.tensor(view.reach)).all()
        assert (pair.abs().amax((0, 1)) > 0.98 * torch.tensor(view.reach)).all()
        x, *y = (factors[..., factor] for factor in view.factors)
        code = x * view.grid.levels[1] + y[0] if y else x
        distances = (pair.unsqueeze(-2) - view.grid.points).norm(dim=-1)
        assert len(view.grid.points) == view.grid.size
        least = distances.amin(-1)
        assert torch.allclose(distances.gather(-1, code.unsqueeze(-1)).squeeze(-1), least, atol=1e-5)


def test_reach_of_known_configurations() -> None:
    def reach(name: str, **options: object) -> tuple[float, float]:
        return quantizers.planar_views(name, options)[0].reach

    assert reach("fsq", levels=(9, 7)) == pytest.approx((4.004, 3.003))
    assert reach("fsq", levels=(9, 7), range="cell") == (4.5, 3.5)
    assert reach("q2d2-rect", levels=(9, 7)) == (4.5, 3.5)
    assert reach("q2d2-rect", levels=(9, 7), spread=1.2) == pytest.approx((5.4, 4.2))
    assert reach("q2d2-hex", levels=(9, 7)) == pytest.approx((4.5, 3.5 * 3**0.5 / 2))
    assert reach("q2d2-hex-released", levels=(9, 9)) == pytest.approx((4.004, 4.004))


def test_a_planar_quantizer_under_another_name_has_its_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ours(Q2D2):
        pass

    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    quantizers.register(Ours, name="honeycomb", preset={"grid": "hex", "spread": 1.1})
    options = {"levels": (8, 9, 8, 9), "range": "edge"}
    views = quantizers.planar_views("honeycomb", options)
    assert [view.grid for view in views] == list(quantizers.create("honeycomb", dim=8, **options).grids)
    assert views[0].reach == pytest.approx((3.85, 4.4 * 3**0.5 / 2))


def test_an_odd_last_channel_is_left_out() -> None:
    (view,) = quantizers.planar_views("fsq", {"levels": (5, 4, 3)})
    assert view.channels == view.factors == (0, 1)
    assert view.grid.points[:5].tolist() == [[-2, -1.5], [-2, -0.5], [-2, 0.5], [-2, 1.5], [-1, -1.5]]


@pytest.mark.parametrize("name", [n for n in quantizers.available() if n not in (*PLANAR, "fsq")])
def test_others_have_no_planes(name: str) -> None:
    assert quantizers.planar_views(name) == ()


def test_wrong_options_are_told() -> None:
    with pytest.raises(quantizers.QuantizerError, match="did you mean 'fsq'"):
        quantizers.planar_views("fssq")
    with pytest.raises(quantizers.QuantizerError, match="odd"):
        quantizers.planar_views("q2d2-hex", {"levels": (8, 8)})
