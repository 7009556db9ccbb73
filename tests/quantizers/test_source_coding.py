"""Known sources: the bounds against closed forms, and quantizers against the bounds."""

import math

import pytest
import torch

import quantizers
from quantizers.checks import source_coding as known
from quantizers.checks import sources
from quantizers.checks.rate_distortion import components_snr
from quantizers.geometry.figures_of_merit import EXACT


@pytest.mark.parametrize("source", sources.SOURCES)
def test_sources_have_unit_variance(source: str) -> None:
    values = sources.sample(source, 100_000, 4, torch.Generator().manual_seed(0))
    assert values.shape == (100_000, 4)
    assert abs(values.mean()) < 0.02
    assert abs(values.var() - 1) < 0.03
    correlation = (values[:, 0] * values[:, 1]).mean()
    assert abs(correlation - (sources.CORRELATION if source == "correlated" else 0)) < 0.03


def test_gaussian_and_correlated_bounds() -> None:
    assert math.isclose(sources.shannon_snr("gaussian", 2.0, 8), 12.0412, abs_tol=1e-4)
    # At high rate the correlated source gains the ratio of arithmetic and geometric mean of its eigenvalues.
    gain = -10 * math.log10((1 - sources.CORRELATION**2) ** (7 / 8))
    assert math.isclose(sources.shannon_snr("correlated", 3.0, 8), 18.0618 + gain, abs_tol=1e-3)
    assert sources.shannon_snr("correlated", 0.25, 8) < 20 * math.log10(2) * 0.25 + gain


@pytest.mark.parametrize("source", ["uniform", "laplacian"])
def test_numerical_bounds_approach_shannons_lower_bound(source: str) -> None:
    """D(R) lies above the Shannon lower bound on distortion, and meets it at high rate."""
    ideal = 1 / (2 * math.pi * math.e)
    for bits in (0.5, 1.0, 2.0, 3.0, 4.0):
        ceiling = sources.high_rate_snr(source, bits, 8, ideal)
        assert sources.shannon_snr(source, bits, 8) < ceiling + 0.02
        assert sources.shannon_snr(source, bits, 8) > 20 * math.log10(2) * bits * 0.99
    assert ceiling - sources.shannon_snr(source, 4.0, 8) < 0.2


def test_high_rate_prediction_of_a_cubic_lattice() -> None:
    assert math.isclose(sources.high_rate_snr("uniform", 3.0, 8), 20 * math.log10(8))
    # The well-known 1.53 dB between a cubic lattice with entropy coding and the bound.
    gap = sources.shannon_snr("gaussian", 5.0, 8) - sources.high_rate_snr("gaussian", 5.0, 8)
    assert math.isclose(gap, 10 * math.log10(2 * math.pi * math.e / 12))
    better = sources.high_rate_snr("gaussian", 5.0, 8, EXACT["E8"]) - sources.high_rate_snr(
        "gaussian", 5.0, 8
    )
    assert math.isclose(better, 0.654, abs_tol=1e-3)


@pytest.mark.parametrize("name", ["vq", "fsq", "q2d2-rect", "lattice"])
@pytest.mark.parametrize("source", ["uniform", "gaussian"])
def test_quantizers_stay_below_the_bound_and_come_near(name: str, source: str) -> None:
    (point,), refusal = known.run(name, source, [2.0], dim=8, steps=150)
    assert refusal == ""
    assert abs(point.bits - 2) < 0.05
    assert 0 < point.gap < 4
    assert point.error < 0.2


def test_the_best_scalar_quantizer_of_a_gaussian_is_approached() -> None:
    """Max 1960: 4 levels reach 9.30 dB; a quantizer of single values cannot do better."""
    (point,), _ = known.run("latent", "gaussian", [2.0], dim=4, steps=300)
    assert 8.5 < point.snr < 9.35 + 3 * point.error


def test_refusals_are_reported() -> None:
    points, refusal = known.run("simvq", "gaussian", [1.0, 4.0], dim=8, steps=2)
    assert len(points) == 1
    assert "residual-simvq" in refusal
    with pytest.raises(quantizers.QuantizerError, match="known: uniform"):
        sources.sample("cauchy", 3, 2)


def recorded(covariance: torch.Tensor, frames: int, clips: int = 40) -> sources.Recorded:
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(covariance)
    train, test = (
        3 + 5 * torch.randn(frames, len(covariance), generator=generator) @ root.mT for _ in range(2)
    )
    return sources.Recorded(train, test, torch.arange(frames) % clips)


def test_recorded_frames_are_measured_like_the_source_that_they_are_from() -> None:
    lags = torch.arange(8)
    frames = recorded(sources.CORRELATION ** (lags[:, None] - lags).abs(), 40_000)
    assert math.isclose(
        sources.shannon_snr(frames.standard, 1.5, 8), sources.shannon_snr("correlated", 1.5, 8), abs_tol=0.05
    )
    for name in ("vq", "q2d2-hex"):
        (found,), _ = known.run(name, frames, [1.5], steps=150)
        (wanted,), _ = known.run(name, "correlated", [1.5], dim=8, steps=150)
        assert found.source == sources.RECORDED
        assert math.isnan(found.high_rate)
        assert 0 < found.gap < 6
        if name == "vq":  # grids choose fewer channels there than one per value
            assert abs(found.snr - wanted.snr) < 0.3


def test_standard_errors_are_over_clips() -> None:
    values = torch.randn(200, dtype=torch.float64).repeat_interleave(50)  # each clip says one thing 50 times
    together = known._mean(values, torch.arange(200).repeat_interleave(50))[1]
    assert math.isclose(together, values.std().item() / math.sqrt(200), rel_tol=0.02)
    assert math.isclose(known._mean(values, torch.arange(10_000))[1], values.std().item() / 100, rel_tol=0.02)


def test_channel_methods_are_tried_from_the_values_and_from_their_components() -> None:
    square, narrow = (quantizers.create("fsq", dim=8, levels=(4,) * channels) for channels in (8, 6))
    assert known.starts(square, "uniform") == ("values", "components")
    assert known.starts(narrow, "uniform") == ("components",)
    assert known.starts(square, recorded(torch.eye(8), 50)) == ("components",)
    assert known.starts(quantizers.create("vq", dim=8, bits=4), "uniform") == ("components",)


# A rotation brings values closer to Gaussian ones. Even levels fit those better than Laplacian values (7.2 dB
# from the values themselves) and worse than uniform ones (10.2 dB from components).
@pytest.mark.parametrize(("source", "least"), [("uniform", 11.7), ("laplacian", 8.2)])
def test_the_better_start_is_kept(source: str, least: float) -> None:
    (point,), _ = known.run("fsq", source, [2.0], steps=100)
    assert point.snr > least


@pytest.mark.parametrize("name", ["fsq", "q2d2-hex"])
def test_a_grid_spends_its_bits_where_the_variance_is(name: str) -> None:
    """With one channel a value and equal levels, it was 2.5 dB worse on the correlated source."""
    (point,), _ = known.run(name, "correlated", [2.0], steps=50)
    (even,), _ = known.run(name, "correlated", [2.0], steps=50, options={"channels": 8, "allocation": "even"})
    assert point.gap < 4.2
    assert point.snr > even.snr + 1.5
    lags = torch.arange(8)
    frames = recorded(sources.CORRELATION ** (lags[:, None] - lags).abs(), 20_000)
    (measured,), _ = known.run(name, frames, [2.0], steps=50)
    assert abs(measured.snr - point.snr) < 0.4


def test_channels_cap_what_recorded_frames_allow() -> None:
    """With N of the principal components and no error in them, the others are lost: a sum of eigenvalues."""
    scales = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5, 0.5, 0.25, 0.25])
    frames = scales * torch.randn(40_000, 8, generator=torch.Generator().manual_seed(0))
    recorded = sources.Recorded(frames[:20_000], frames[20_000:], torch.arange(20_000) // 100)
    options = {"channels": 2, "allocation": "even"}
    (point,), _ = known.run("fsq", recorded, [2.0], steps=20, options=options)
    power = scales.square()
    assert point.channels == 2
    assert math.isclose(point.ceiling, 10 * math.log10(power.sum() / power[2:].sum()), abs_tol=0.1)
    assert point.ceiling - 0.3 < point.snr < point.ceiling  # 8 bits a channel leave next to no other error
    covariance = frames.double().mT.cov()
    assert components_snr(7, covariance) < math.inf
    assert components_snr(8, covariance) == components_snr(9, covariance) == math.inf
    (whole,), _ = known.run("vq", recorded, [0.5], steps=20)
    assert math.isnan(whole.channels)
    assert math.isnan(whole.ceiling)
