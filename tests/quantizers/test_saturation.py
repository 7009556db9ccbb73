"""Saturation and effective dimension against closed forms, and on quantizers whose channels are saturated."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import quantizers
from analysis.figures.cells.saturation import saturation_of
from quantizers.contract import Quantized
from quantizers.saturation import DimensionCounter, SaturationCounter, participation_ratio, ranges
from quantizers.spread import SpreadCounter

SATURATING = ["fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic", "q2d2-rect-released", "lattice"]


def test_shares_of_an_evenly_filled_range() -> None:
    values = torch.linspace(-1, 1, 200_001, dtype=torch.float64).unsqueeze(1)
    for level in (2, 3, 9, 14):
        cell = ranges([level], [1.0], [level / 2])
        edge = ranges([level], [1.0], [(level - 1) / 2])
        assert cell.even_shares[0] == pytest.approx(1 / level)
        assert edge.even_shares[0] == pytest.approx(0.5 / (level - 1))
        for each in (cell, edge):
            counter = SaturationCounter(each)
            for part in (values * each.reaches[0]).split(70_000):
                counter.update(part.unsqueeze(0))
            report = counter.report()
            assert report["shares"][0] == pytest.approx(each.even_shares[0], abs=1e-4)
            assert report["even_shares"] == list(each.even_shares)
            assert report["frames"] == 200_001
            assert (report["saturated"], report["warning"]) == (0.0, None)


def test_cells_that_are_used_alike_are_not_saturated_however_they_are_filled() -> None:
    for level in (2, 3, 5, 16):
        counter = SaturationCounter(ranges([level], [1.0], [level / 2]))
        centres = (torch.arange(1200) % level - (level - 1) / 2).unsqueeze(1)
        counter.update(centres * (1 + 0.4 / level))  # all of the outer ones beyond their centre
        report = counter.report()
        assert report["shares"][0] == report["limits"][0] == pytest.approx(2 / level)
        assert report["saturated"] == 0.0


@pytest.mark.parametrize("name", SATURATING)
def test_a_collapse_into_a_corner_is_told(name: str) -> None:
    quantizer = quantizers.create(name, dim=16, bits=30.0).eval()
    features = torch.randn(1, 4000, 16, generator=torch.Generator().manual_seed(0))
    quantizer.start(features[0])
    reports = []
    for push in (0.0, 3.0):
        with torch.no_grad():
            quantizer.project_in.bias[:2] += push
        counter = SaturationCounter(quantizer.channel_ranges)
        coordinates = quantizer(features).diagnostics["coordinates"]
        assert (coordinates.abs() <= torch.tensor(counter.ranges.reaches) + 1e-4).all()
        counter.update(coordinates)
        reports.append(counter.report())
    before, after = reports
    assert before["warning"] is None
    channels = len(before["shares"])
    assert after["saturated"] == 2 / channels
    assert min(after["shares"][:2]) > 0.9
    assert after["share"] == pytest.approx(sum(after["shares"]) / channels)
    assert f"2 of {channels} channels are saturated" in after["warning"]


@pytest.mark.parametrize("name", quantizers.available())
def test_ranges_go_with_coordinates(name: str) -> None:
    quantizer = quantizers.create(name, dim=32).eval()
    coordinates = quantizer(torch.randn(1, 5, 32)).diagnostics.get("coordinates")
    found = quantizer.channel_ranges
    assert (coordinates is None) == (found is None)
    if coordinates is not None:
        assert len(found.levels) == len(found.centres) == len(found.limits) == coordinates.shape[-1]
        assert all(0 < centre < reach for centre, reach in zip(found.centres, found.reaches, strict=True))


def test_spread_moves_the_reach_and_not_the_levels() -> None:
    plain, wide = (
        quantizers.create(name, dim=16, spread=spread).channel_ranges
        for name, spread in (("lattice", 1.0), ("lattice", 1.5))
    )
    assert plain.boundaries == pytest.approx(wide.boundaries)
    assert [1.5 * reach for reach in plain.reaches] == pytest.approx(wide.reaches)


def test_participation_ratio_in_closed_form() -> None:
    assert participation_ratio(torch.eye(7)) == pytest.approx(7)
    assert participation_ratio(torch.ones(7, 7)) == pytest.approx(1)
    assert participation_ratio(torch.diag(torch.tensor([4.0, 2.0, 1.0]))) == pytest.approx(49 / 21)
    assert participation_ratio(torch.zeros(7, 7)) == 0


def test_effective_dimension_of_features() -> None:
    features = 1e4 + torch.randn(3, 1000, 5, generator=torch.Generator().manual_seed(0))
    counter = DimensionCounter(5)
    for clip in features:
        counter.update(clip.unsqueeze(0))
    counter.update(features[:, :0])
    assert counter.frames == 3000
    wanted = features.flatten(0, 1).double().mT.cov(correction=0)
    assert torch.allclose(counter.covariance, wanted, atol=1e-6)
    assert math.isclose(counter.effective_dimension, participation_ratio(wanted), rel_tol=1e-6)
    assert DimensionCounter(5).effective_dimension == 0


def test_signal_to_noise_over_batches_is_that_of_all_frames() -> None:
    features = 30 + torch.randn(3, 500, 6, generator=torch.Generator().manual_seed(0))
    quantizer = quantizers.create("fsq", dim=6, levels=(5,) * 4).eval()
    quantizer.start(features.flatten(0, 1))
    counter = SpreadCounter(quantizer)
    for clip in features:
        counter.update(clip[None], quantizer(clip[None]))
    error = (quantizer(features).features.detach() - features).square().mean()
    variance = features.flatten(0, 1).var(dim=0, correction=0).mean()
    assert counter.metrics()["signal_to_noise"] == pytest.approx(
        10 * math.log10(float(variance / error)), abs=1e-3
    )


def test_uniform_values_have_the_signal_to_noise_ratio_of_theory() -> None:
    """L levels on values in [-1, 1]: variance 1/3 over noise (2/L)^2 / 12, so 20 log10 L, 6.02 dB a bit."""
    values = 2 * torch.rand(1, 100_000, 1, generator=torch.Generator().manual_seed(0)) - 1
    for levels in (4, 8, 64):
        edges = (((values + 1) * levels / 2).floor().clamp(0, levels - 1) + 0.5) * 2 / levels - 1
        counter = SpreadCounter(quantizers.create("none", dim=1))
        counter.update(
            values, Quantized(edges, torch.empty(1, 100_000, 0, dtype=torch.long), torch.zeros(()), {})
        )
        assert counter.metrics()["signal_to_noise"] == pytest.approx(20 * math.log10(levels), abs=0.05)


@pytest.mark.parametrize(
    ("features", "quantized"),
    [
        (torch.randn(1, 50, 3), None),  # no noise
        (torch.ones(1, 50, 3), torch.zeros(1, 50, 3)),  # no signal
        (torch.randn(1, 50, 3), torch.full((1, 50, 3), math.inf)),
        (torch.randn(1, 50, 3), torch.full((1, 50, 3), math.nan)),
    ],
)
def test_without_a_finite_noise_and_signal_no_ratio_is_given(
    features: torch.Tensor, quantized: torch.Tensor | None
) -> None:
    quantizer = quantizers.create("none", dim=3).eval()
    made = quantizer(features)
    counter = SpreadCounter(quantizer)
    counter.update(features, made if quantized is None else made._replace(features=quantized))
    assert "signal_to_noise" not in counter.metrics()
    assert "signal_to_noise" not in SpreadCounter(quantizer).metrics()


def test_fewer_channels_leave_fewer_dimensions() -> None:
    features = torch.randn(1, 4000, 16, generator=torch.Generator().manual_seed(0))
    before = DimensionCounter(16)
    before.update(features)
    assert before.effective_dimension > 15
    for channels in (2, 6):
        quantizer = quantizers.create("fsq", dim=16, levels=(9,) * channels).eval()
        quantizer.start(features[0])
        after = DimensionCounter(16)
        after.update(quantizer(features).features)
        assert abs(after.effective_dimension - channels) < 0.2


def test_runs_from_random_weights_would_have_been_caught() -> None:
    """Latents of the test set of a `q2d2-rect` run from random weights, as it was trained before there were
    starts: `levels: [14, 15, 14, 15]`, seed 0, demo corpus, 60 steps, fp32."""
    with np.load(Path(__file__).with_name("latents_after_60_steps.npz")) as file:
        pairs = [file[f"pair_{pair}"].astype(np.float64) for pair in (0, 1)]
    views = quantizers.planar_views("q2d2-rect", {"levels": [14, 15, 14, 15]})
    counters = [SaturationCounter(view.ranges) for view in views]
    for counter, latents in zip(counters, pairs, strict=True):
        counter.update(torch.from_numpy(latents))
    good, bad = (counter.report() for counter in counters)
    assert good["warning"] is None
    assert min(bad["shares"]) > 6 * max(bad["limits"])
    assert "2 of 2 channels are saturated" in bad["warning"]
    assert [each.saturated for each in saturation_of(views, pairs)] == [False, True]
    assert saturation_of(views, pairs)[1].note.startswith("saturated: ")
