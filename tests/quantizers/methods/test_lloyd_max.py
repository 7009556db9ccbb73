"""Lloyd-Max levels against Max's tables (1960), and the quantizer that is made of them."""

import math

import pytest
import torch

import quantizers
from quantizers import QuantizerError
from quantizers.checks.source_coding import measure
from quantizers.checks.start_table import gauss_markov, signal_to_noise
from quantizers.methods.lloyd_max import random_rows
from quantizers.parts.optimal_levels import gaussian_levels, lloyd_max, means, shares


@pytest.mark.parametrize(
    ("upper", "error"),
    [
        ([0.7980], 0.3634),
        ([0.0, 1.224], 0.1902),
        ([0.4528, 1.510], 0.1175),
        ([0.0, 0.7646, 1.724], 0.07994),
        ([0.2451, 0.7560, 1.344, 2.152], 0.03454),
        ([0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733], 0.009497),
    ],
)
def test_levels_of_a_gaussian_are_those_of_max(upper: list[float], error: float) -> None:
    """Max 1960, Quantizing for minimum distortion, table I: outputs from the middle up and the error."""
    lower = [-value for value in reversed(upper) if value]
    wanted = torch.tensor(lower + upper, dtype=torch.float64)
    found = gaussian_levels(len(wanted))
    torch.testing.assert_close(found, wanted, atol=6e-4, rtol=0)
    share = shares(found)
    assert share.sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(means(found), found, atol=1e-9, rtol=0)  # each is the mean of its cell
    assert 1 - (share * found.square()).sum().item() == pytest.approx(error, rel=6e-4)


@pytest.mark.parametrize("levels", [100, 512, 2000])
def test_many_levels_come_to_panter_and_dites_error(levels: int) -> None:
    """sqrt(3) pi / 2 / L^2 for many levels L (Panter and Dite 1951)."""
    found = gaussian_levels(levels)
    assert (found.diff() > 0).all()
    torch.testing.assert_close(found, -found.flip(0))
    share = shares(found)
    error = 1 - 2 * (share * found * means(found)).sum() + (share * found.square()).sum()
    assert error.item() * levels**2 / (math.sqrt(3) * math.pi / 2) == pytest.approx(
        1, rel=2 / math.sqrt(levels)
    )


def test_the_quantizer_leaves_a_gaussian_maxs_error() -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create("lloyd-max", dim=3, levels=(4, 8, 3)).eval()
    torch.nn.init.eye_(quantizer.project_in.weight)
    torch.nn.init.eye_(quantizer.project_out.weight)
    torch.nn.init.zeros_(quantizer.project_in.bias)
    torch.nn.init.zeros_(quantizer.project_out.bias)
    x = torch.randn(4, 50_000, 3)
    errors = (quantizer(x).features - x).square().mean((0, 1))
    assert errors.tolist() == pytest.approx([0.1175, 0.03454, 0.1902], rel=0.02)


@pytest.mark.parametrize(("commitment", "least"), [(1.0, 9.2), (0.0, 0.0)])
def test_training_stays_at_maxs_error_since_commitment_takes_back_the_pull_outwards(
    commitment: float, least: float
) -> None:
    quantizer = quantizers.create("lloyd-max", dim=8, levels=(4,) * 8, commitment=commitment)
    torch.manual_seed(0)
    point = measure(quantizer, "gaussian", steps=200, batch=256)
    best = -10 * math.log10(0.1175)  # 9.30 dB
    assert least < point.snr < best + 0.1
    assert (point.snr > best - 1) == (commitment > 0)


def test_a_start_finds_the_levels_of_the_data() -> None:
    """A Laplacian of unit variance at 4 levels: 0.4196 and 1.8340 (Paez and Glisson 1972)."""
    even = ((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000 - 0.5) * 2
    laplacian = (-even.sign() * torch.log1p(-even.abs()) / math.sqrt(2)).float().unsqueeze(1)
    ratios = []
    for values in ("gaussian", "data"):
        quantizer = quantizers.create("lloyd-max", dim=1, levels=(4,), values=values)
        quantizer.start(laplacian)
        ratios.append(signal_to_noise(quantizer, laplacian))
    spread = (quantizer.values * quantizer.project_out.weight).abs().flatten().sort().values
    assert spread.tolist() == pytest.approx([0.4196, 0.4196, 1.8340, 1.8340], rel=0.01)
    assert ratios[1] == pytest.approx(-10 * math.log10(0.1762), abs=0.02)
    assert ratios[1] > ratios[0] + 0.1


def test_random_rows_are_a_rotation_or_a_tight_frame() -> None:
    few, many = random_rows(6, 32).double(), random_rows(40, 32).double()
    torch.testing.assert_close(few @ few.mT, torch.eye(6, dtype=torch.float64), atol=1e-6, rtol=0)
    eye = torch.eye(32, dtype=torch.float64)
    torch.testing.assert_close(many.mT @ many * 32 / 40, eye, atol=1e-6, rtol=0)
    assert torch.equal(random_rows(6, 32), random_rows(6, 32))


def test_codes_of_a_random_rotation_depend_on_data_by_mean_and_scale_alone() -> None:
    """Training moves nothing in front of the codes, and a start on other data of the same mean and scale
    gives the same codes."""
    torch.manual_seed(0)
    quantizer = quantizers.create("lloyd-max", dim=16, bits=20.0, rotation="random", values="gaussian")
    features = gauss_markov(4000, 16, 0.9, seed=1)
    quantizer.start(5 + 3 * features)
    codes = quantizer.encode(5 + 3 * features[None, :500])
    assert [name for name, _ in quantizer.named_parameters()] == ["project_out.weight", "project_out.bias"]
    plain = quantizers.create("lloyd-max", dim=16, bits=20.0, rotation="random", values="gaussian")
    plain.start(features)
    assert (plain.encode(features[None, :500]) == codes).float().mean() > 0.999
    rows = random_rows(len(quantizer.config.levels), 16)
    scale = (quantizer.project_in.weight / rows).flatten()
    torch.testing.assert_close(scale, scale[:1].expand_as(scale))


def test_data_that_are_looked_at_are_worth_decibels() -> None:
    features, fresh = gauss_markov(4000, 16, 0.9, seed=1), gauss_markov(4000, 16, 0.9, seed=2)
    ratios = []
    for options in ({"rotation": "random", "values": "gaussian"}, {"values": "gaussian"}, {}):
        quantizer = quantizers.create("lloyd-max", dim=16, bits=20.0, **options)
        quantizer.start(features)
        ratios.append(signal_to_noise(quantizer, fresh))
    assert ratios[1] > ratios[0] + 1
    assert abs(ratios[2] - ratios[1]) < 0.2  # of a Gaussian, data know nothing more


def test_a_value_that_nothing_chose_stays() -> None:
    samples = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    found = lloyd_max(samples, torch.tensor([0.0, 5.0], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([0.1, 5.0], dtype=torch.float64))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(QuantizerError, match="at most 4,096"):
        quantizers.create("lloyd-max", dim=8, levels=(5000,))
    with pytest.raises(QuantizerError, match="learned, random"):
        quantizers.create("lloyd-max", dim=8, rotation="fixed")
