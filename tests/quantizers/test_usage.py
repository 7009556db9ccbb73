"""Usage figures against closed forms and simulations."""

import math

import numpy as np
import pytest
import torch

import quantizers
from quantizers import usage
from quantizers.usage import UsageCounter, uniform_usage


def count(codes: np.ndarray, size: int) -> dict:
    counter = UsageCounter((size,))
    for part in np.array_split(codes, 3):
        counter.update(torch.from_numpy(part).view(1, -1, 1))
    return counter.report()


def test_figures_of_a_known_histogram() -> None:
    codes = np.repeat([0, 1, 2], [50, 30, 20])
    report = count(codes, 8)
    entropy = -sum(p * math.log2(p) for p in (0.5, 0.3, 0.2))
    factor = report["factors"][0]
    assert factor["used"] == 3
    assert factor["used_fraction"] == 3 / 8
    assert math.isclose(factor["entropy_bits_plug_in"], entropy)
    assert math.isclose(factor["entropy_bits"], entropy + 2 / (200 * math.log(2)))
    assert math.isclose(factor["perplexity"], 2 ** factor["entropy_bits"])
    assert math.isclose(factor["entropy_fraction"], factor["entropy_bits"] / 3)
    assert report["tokens"] == 100
    assert report["used_fraction"] == 3 / 8


def test_dead_codes_are_used_less_than_a_tenth_of_an_even_share() -> None:
    codes = np.repeat([0, 1, 2], [9_500, 490, 10])  # an even share of four codes would be 2500
    factor = count(codes, 4)["factors"][0]
    assert factor["used"] == 3
    assert factor["dead"] == 2
    assert factor["dead_fraction"] == 0.5


@pytest.mark.parametrize(
    ("size", "tokens"), [(100, 50), (64, 10_000), (1000, 3000), (2**14, 2**15), (17, 40)]
)
def test_uniform_expectation_against_simulation(size: int, tokens: int) -> None:
    rng = np.random.default_rng(0)
    runs = [count(rng.integers(0, size, tokens), size)["factors"][0] for _ in range(40)]
    expected = uniform_usage(size, tokens)
    for key in ("used", "dead", "entropy_bits_plug_in"):
        values = np.array([run[key] for run in runs])
        spread = 4 * values.std() / math.sqrt(len(values)) + 1e-9
        if (
            key == "entropy_bits_plug_in"
        ):  # the expected figure holds the correction, before the cap at log2 K
            corrected = values.mean() + (expected["used"] - 1) / (2 * tokens * math.log(2))
            assert abs(min(corrected, math.log2(size)) - expected["entropy_bits"]) < spread
        else:
            assert abs(values.mean() - expected[key]) < spread


def test_uniform_expectation_in_closed_form() -> None:
    assert math.isclose(uniform_usage(2, 1)["used"], 1.0)
    assert math.isclose(uniform_usage(4, 2)["used"], 1.75)
    # Two tokens of four codes: 1 bit of plug-in entropy with probability 3/4.
    plug_in = uniform_usage(4, 2)["entropy_bits"] - 0.75 / (4 * math.log(2))
    assert math.isclose(plug_in, 0.75)
    assert uniform_usage(1, 10) == {"used": 1.0, "dead": 0.0, "entropy_bits": 0.0}


def test_miller_madow_takes_most_of_the_bias_away() -> None:
    codes = np.random.default_rng(0).integers(0, 256, 2000)
    factor = count(codes, 256)["factors"][0]
    assert 8 - factor["entropy_bits_plug_in"] > 0.08
    assert abs(8 - factor["entropy_bits"]) < 0.02


def test_half_the_points_in_use_is_reported_as_half() -> None:
    codes = np.random.default_rng(0).integers(0, 42, 200_000)
    factor = count(codes, 85)["factors"][0]
    assert math.isclose(factor["used_fraction"], 42 / 85)
    assert factor["uniform_used_fraction"] > 0.999999


def test_product_codebook_per_factor_stream_and_joint() -> None:
    quantizer = quantizers.create("q2d2-rect", dim=8, levels=(3, 3, 3, 3)).eval()
    codes = quantizer(2 * torch.randn(4, 500, 8, generator=torch.Generator().manual_seed(0))).codes
    counter = UsageCounter(quantizer.codebook_sizes, quantizer.factor_sizes)
    counter.update(codes, quantizer.factors(codes))
    report = counter.report()
    assert [factor["codes"] for factor in report["factors"]] == [9, 9]
    assert report["streams"][0]["codes"] == 81
    assert report["joint"]["used"] == len(codes.unique())
    assert math.isclose(report["entropy_bits_per_frame"], sum(f["entropy_bits"] for f in report["factors"]))
    assert set(counter.histograms()) == {"factor_0", "factor_1"}
    assert counter.histograms()["factor_0"].sum() == 2000


def test_joint_of_several_streams() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 30, (5000, 2))
    counter = UsageCounter((30, 30))
    counter.update(torch.from_numpy(rows).view(5, 1000, 2))
    joint = counter.report()["joint"]
    assert joint["codes"] == 900
    assert joint["used"] == len(np.unique(rows, axis=0))


def test_implicit_codebooks_of_2_to_the_60() -> None:
    codes = np.random.default_rng(0).integers(0, 2**60, 10_000)
    factor = count(codes, 2**60)["factors"][0]
    assert factor["used"] == 10_000
    assert factor["kept"] == 1.0
    assert abs(factor["entropy_bits"] - factor["uniform_entropy_bits"]) < 1e-6


def test_memory_is_bounded_and_estimates_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "CAP", 2000)
    codes = np.random.default_rng(0).integers(0, 2**14, 60_000) * 2**20
    counter = UsageCounter((2**40,))
    for part in np.array_split(codes, 10):
        counter.update(torch.from_numpy(part).view(1, -1, 1))
    assert len(counter._factors[0].values) <= 2000
    factor = counter.report()["factors"][0]
    assert factor["kept"] == 1 / 8
    exact = len(np.unique(codes))
    assert abs(factor["used"] / exact - 1) < 4 / math.sqrt(exact / 8)
    assert abs(factor["entropy_bits_plug_in"] / 14 - 1) < 0.05


def test_codes_outside_the_codebook_are_refused() -> None:
    for bad in (-1, 8):
        with pytest.raises(ValueError, match=r"must lie in \[0, 8\)"):
            UsageCounter((8,)).update(torch.tensor([[[0], [bad]]]))


def test_no_codes_and_no_tokens() -> None:
    assert UsageCounter(()).report()["tokens"] == 0
    counter = UsageCounter(())
    counter.update(torch.zeros(2, 5, 0, dtype=torch.int64))
    assert counter.report()["entropy_bits_per_frame"] == 0
    assert UsageCounter((8,)).report()["factors"][0]["used"] == 0
