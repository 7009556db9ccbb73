"""Activations, and noise in place of quantization, against their formulas."""

import pytest
import torch

import quantizers
from quantizers import QuantizerError
from quantizers.geometry.lattices import lattice
from quantizers.methods.lattice import CellNoise
from quantizers.parts.activations import bounded
from quantizers.parts.noise_substitution import substituted


def test_the_sigmoid_is_the_published_one() -> None:
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    torch.testing.assert_close(bounded(x, "sigmoid"), 2 * torch.sigmoid(1.6 * x) - 1)
    assert torch.equal(bounded(x, "tanh"), torch.tanh(x))


@pytest.mark.parametrize("name", ["fsq", "q2d2-hex", "lattice"])
def test_a_map_that_is_steeper_by_a_quarter_makes_up_for_the_sigmoid(name: str) -> None:
    torch.manual_seed(0)
    plain = quantizers.create(name, dim=16, bits=20.0).eval()
    other = quantizers.create(name, dim=16, bits=20.0, activation="sigmoid").eval()
    other.load_state_dict(plain.state_dict())
    with torch.no_grad():
        other.project_in.weight /= 0.8
        other.project_in.bias /= 0.8
    x = torch.randn(2, 300, 16)
    same = (plain(x).codes == other(x).codes).float().mean()
    assert same > 0.999  # but for rounding at the edges of cells


def test_both_activations_start_from_data_alike() -> None:
    torch.manual_seed(0)
    features = torch.randn(20_000, 16).cumsum(1)
    errors = []
    for activation in ("tanh", "sigmoid"):
        quantizer = quantizers.create("fsq", dim=16, bits=20.0, activation=activation)
        quantizer.start(features)
        error = quantizer.eval()(features.unsqueeze(0)).features - features
        errors.append(error.square().mean().item())
    assert errors[1] == pytest.approx(errors[0], rel=0.02)


@pytest.mark.parametrize(("name", "moment"), [("Z", 1 / 12), ("D4", 0.076603), ("E8", 0.071682)])
def test_noise_of_a_lattice_has_its_second_moment(name: str, moment: float) -> None:
    """Conway and Sloane, SPLAG, table 2.3: the normalised second moment, per dimension."""
    torch.manual_seed(0)
    dimension = lattice(name).dimension
    noise = CellNoise(name)(torch.empty(40_000, 2 * dimension))
    assert noise.shape == (40_000, 2 * dimension)
    found = noise.square().mean().item() / lattice(name).volume ** (2 / dimension)
    assert found == pytest.approx(moment, rel=0.01)
    assert noise.mean(0).abs().max() < 0.02


@pytest.mark.parametrize("levels", [(5, 8), (6, 7)])
@pytest.mark.parametrize("reach", ["edge", "cell"])
def test_noise_of_fsq_is_uniform_over_a_cell(levels: tuple[int, ...], reach: str) -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create("fsq", dim=2, levels=levels, range=reach, gradient="noise")
    torch.nn.init.eye_(quantizer.project_out.weight)
    torch.nn.init.zeros_(quantizer.project_out.bias)
    x = torch.randn(1, 20_000, 2)
    noisy = quantizer(x).features
    # In expectation noise leaves the value where it is, on the same scale as the levels.
    exact = quantizer._value(quantizer._coordinates(quantizer.project_in(x)) - quantizer.offset)
    error = (noisy - exact) * quantizer.scale
    assert error.abs().max() <= 0.5 + 1e-5
    assert error.square().mean().item() == pytest.approx(1 / 12, rel=0.02)
    assert torch.equal(quantizer.eval()(x).features, quantizer.decode(quantizer(x).codes))


def test_substituted_errors_have_the_length_of_the_real_ones() -> None:
    torch.manual_seed(0)
    vectors, codes = torch.randn(500, 8, requires_grad=True), torch.randn(500, 8)
    noisy = substituted(vectors, codes)
    torch.testing.assert_close((noisy - vectors).norm(dim=-1), (vectors - codes).norm(dim=-1))
    (gradient,) = torch.autograd.grad(noisy.sum(), vectors)
    assert torch.isfinite(gradient).all()
    at_code = substituted(codes.clone().requires_grad_(), codes)
    (gradient,) = torch.autograd.grad(at_code.sum(), at_code.grad_fn.next_functions[0][0].variable)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(at_code, codes)


def test_options_of_a_later_date_are_told_only_where_they_differ() -> None:
    plain = quantizers.fit_options("fsq", dim=8, options={"levels": [5, 5]})
    assert plain == {"levels": [5, 5], "range": "edge"}
    other = quantizers.fit_options("fsq", dim=8, options={"levels": [5, 5], "activation": "sigmoid"})
    assert other == {**plain, "activation": "sigmoid"}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("vq", {"rotation_trick": True, "gradient": "noise"}, "two gradients"),
        ("lattice", {"bound": "shell", "counts": (1,), "gradient": "noise"}, "no effect with bound shell"),
        ("fsq", {"activation": "relu"}, "tanh, sigmoid"),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(QuantizerError, match=words):
        quantizers.create(name, dim=8, **options)
