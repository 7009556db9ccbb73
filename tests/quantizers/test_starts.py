"""Starts from data: how good they are on a known source, and each part of them against theory."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

import quantizers
from quantizers.checks import conformance
from quantizers.checks.sources import shannon_snr
from quantizers.checks.start_table import gauss_markov, main, signal_to_noise
from quantizers.checks.starts import start_can_be_trained
from quantizers.contract import Quantized
from quantizers.methods.fsq import FSQ, FSQConfig
from quantizers.parts import components as pca
from quantizers.parts.optimal_levels import lloyd_max
from quantizers.parts.scales import BEST, EVEN, best_scales
from quantizers.parts.signs import best_deviation, iterative_quantization, staged_signs

DIM = 64


def source(frames: int, seed: int, dim: int = DIM) -> Tensor:
    """Frames [frames, dim] of a Gaussian source, neighbouring values correlated at 0.98."""
    return gauss_markov(frames, dim, 0.98, seed)


@pytest.mark.parametrize(
    ("name", "bits", "least"),
    [
        ("fsq", 40.0, 11.8),
        ("q2d2-rect", 40.0, 12.2),
        ("q2d2-hex", 40.0, 12.6),
        ("q2d2-rhombic", 40.0, 12.6),
        ("q2d2-hex-released", 40.0, 11.9),
        ("fsp", 40.0, 12.1),
        ("latent", 40.0, 13.0),
        ("lloyd-max", 40.0, 13.0),
        ("residual-fsq", 40.0, 13.2),
        ("lattice", 40.0, 10.7),
        ("lfq", 40.0, 7.0),
        ("bsq", 40.0, 7.0),
        ("residual-lfq", 40.0, 10.7),
        ("rvq", 20.0, 12.2),
        ("grouped-rvq", 20.0, 11.5),
        ("residual-simvq", 20.0, 12.2),
        ("rvq-factorized", 20.0, 12.0),
        ("vq", 10.0, 9.7),
        ("simvq", 10.0, 9.7),
        ("vq-factorized", 10.0, 9.7),
    ],
)
def test_before_any_training_a_start_comes_near_the_bound(name: str, bits: float, least: float) -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create(name, dim=DIM, bits=bits)
    fresh = source(4000, seed=2)
    assert signal_to_noise(quantizer, fresh) < 1.5  # random weights
    quantizer.start(source(10_000, seed=1))
    lags = torch.arange(DIM, dtype=torch.float64)
    covariance = 0.98 ** (lags[:, None] - lags).abs()
    bound = shannon_bound(covariance, quantizer.bits_per_frame)
    assert least < signal_to_noise(quantizer, fresh) < bound


def shannon_bound(covariance: Tensor, bits: float) -> float:
    """Best signal-to-noise ratio in dB of a Gaussian source at `bits` a frame: reverse water-filling."""
    variances = torch.linalg.eigvalsh(covariance)
    low, high = 0.0, float(variances.max())
    for _ in range(100):
        level = (low + high) / 2
        spent = 0.5 * torch.log2((variances / level).clamp_min(1)).sum()
        low, high = (level, high) if spent > bits else (low, level)
    return -10 * math.log10(float(variances.clamp_max(level).sum() / variances.sum()))


def test_the_bound_is_that_of_the_known_sources() -> None:
    lags = torch.arange(8, dtype=torch.float64)
    covariance = 0.9 ** (lags[:, None] - lags).abs()
    assert math.isclose(shannon_bound(covariance, 16.0), shannon_snr("correlated", 2.0, 8), rel_tol=1e-6)


def gaussian(frames: int = 20_001) -> Tensor:
    """Quantiles [frames, 1] of a Gaussian of unit variance."""
    values = torch.special.ndtri((torch.arange(frames, dtype=torch.float64) + 0.5) / frames)
    return (values / values.square().mean().sqrt()).unsqueeze(1)


def levels_of(values: Tensor, scale: float, levels: int, reach: str) -> Tensor:
    """`values` through tanh and FSQ's levels."""
    half = levels / 2 if reach == "cell" else 1.001 * (levels - 1) / 2
    middle = (levels - 1) / 2
    return (torch.tanh(scale * values) * half + middle).round().clamp(0, levels - 1) - middle


def told(values: Tensor, quantized: Tensor) -> float:
    """Signal-to-noise ratio in dB after a linear read-out."""
    return -10 * math.log10(float(pca.unexplained(quantized, values, 1)))


def test_even_scale_fills_the_range_evenly() -> None:
    filled = torch.tanh(EVEN * gaussian().squeeze(1)).numpy()
    uniform = stats.uniform(-1, 2)
    assert stats.kstest(filled, uniform.cdf).statistic < 0.0096
    for other in (0.8, 0.9):  # of no other scale is it less
        assert stats.kstest(torch.tanh(other * gaussian().squeeze(1)).numpy(), uniform.cdf).statistic > 0.0096
    codes = levels_of(gaussian(), EVEN, 9, "cell").unique(return_counts=True)[1] / 20_001
    assert abs(9 * codes - 1).max() < 0.12  # and all cells are used alike


@pytest.mark.parametrize(
    ("reach", "levels", "best"),
    [
        *(("cell", levels, best) for levels, best in ((5, 0.54), (9, 0.48), (17, 0.35), (33, 0.27))),
        *(("edge", levels, best) for levels, best in ((5, 0.76), (9, 0.51), (17, 0.36), (33, 0.28))),
    ],
)
def test_the_scale_with_the_least_error_is_found(reach: str, levels: int, best: float) -> None:
    values = gaussian()

    def read(scales: Tensor) -> Tensor:
        return levels_of(values, float(scales), levels, reach)

    found = float(best_scales(read, values, torch.ones(1)))
    assert math.isclose(found, best, rel_tol=0.08)
    ratios = {scale: told(values, read(torch.tensor(scale))) for scale in (found, best, EVEN)}
    assert ratios[best] - 0.05 < ratios[found]
    assert ratios[EVEN] < min(12.81, ratios[found])


def test_panter_and_dites_scale_is_near_the_best_at_nine_levels() -> None:
    assert math.isclose(BEST, 0.4913, abs_tol=1e-4)
    ratios = [told(gaussian(), levels_of(gaussian(), scale, 9, "cell")) for scale in (BEST, EVEN)]
    assert ratios[0] > 14.2
    assert ratios[0] - ratios[1] > 2.8


@pytest.mark.parametrize("name", ["fsq", "q2d2-hex", "lattice"])
def test_the_scale_that_is_found_beats_the_even_one(name: str) -> None:
    """On the quantizer as a whole, whatever its cells."""
    quantizer = quantizers.create(name, dim=DIM, bits=40.0)
    features, fresh = source(10_000, seed=1), source(4000, seed=2)
    quantizer.start(features)
    found = signal_to_noise(quantizer, fresh)
    components = pca.principal_components(features)
    with torch.no_grad():
        channels = len(quantizer.project_in.bias)
        rows = EVEN * (components.directions / components.variances.sqrt()).mT[:channels]
        middle = quantizer.middle
        pca.set_linear(quantizer.project_in, rows, middle - (rows @ components.mean).float())
        pca.set_linear(quantizer.project_out, *pca.least_squares(quantizer.values_of(features), features))
    assert found - signal_to_noise(quantizer, fresh) > 0.5


def test_large_components_go_where_the_most_steps_are() -> None:
    quantizer = quantizers.create("q2d2-rect", dim=8, levels=(3, 4, 9, 8, 5, 5))
    variances = torch.tensor([64.0, 49.0, 36.0, 25.0, 16.0, 9.0, 4.0, 1.0])
    features = torch.randn(5000, 8, generator=torch.Generator().manual_seed(0)) * variances.sqrt() + 3
    quantizer.start(features)
    assert quantizer.project_in.weight.abs().argmax(1).tolist() == [5, 4, 0, 1, 2, 3]
    low = quantizer.project_in(features)
    assert low.mean(0).abs().max() < 1e-3
    pairs = low.std(0).view(3, 2)
    assert torch.allclose(pairs[:, 0], pairs[:, 1], rtol=1e-3)  # one scale for a pair


def test_even_levels_of_fsq_are_centred_too() -> None:
    quantizer = quantizers.create("fsq", dim=4, levels=(8, 8, 8, 8))
    features = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    quantizer.start(features)
    counts = torch.stack([part.bincount(minlength=8) for part in factors(quantizer, features).unbind(-1)])
    assert (counts - counts.flip(1)).abs().max() < 400  # 20 % of the least used level, at 5 deviations


def factors(quantizer: quantizers.Quantizer, features: Tensor) -> Tensor:
    return quantizer.factors(quantizer.encode(features.unsqueeze(0)))[0]


@pytest.mark.parametrize(("name", "gain"), [("fsq", 2.0), ("q2d2-rect", 2.0), ("lfq", 1.0)])
def test_channels_beyond_the_rank_are_put_to_use(name: str, gain: float) -> None:
    features = torch.randn(10_000, 4, generator=torch.Generator().manual_seed(0))
    few, many = (
        quantizers.create(name, dim=4, **({"channels": n} if name == "lfq" else {"levels": (5,) * n}))
        for n in (4, 8)
    )
    for quantizer in (few, many):
        quantizer.start(features)
    assert signal_to_noise(many, features) - signal_to_noise(few, features) > gain


def test_start_does_not_look_at_the_weights_before() -> None:
    features = source(500, seed=1)
    for name in quantizers.available():
        torch.manual_seed(1)
        first = quantizers.create(name, dim=DIM, **({} if name == "none" else {"bits": 12.0}))
        torch.manual_seed(2)
        second = quantizers.create(name, dim=DIM, **({} if name == "none" else {"bits": 12.0}))
        for quantizer in (first, second):
            quantizer.start(features)
        for key, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[key]), f"{name}: {key}"


@pytest.mark.parametrize("name", ["vq", "rvq", "grouped-rvq"])
def test_a_started_codebook_is_not_started_again(name: str) -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create(name, dim=16, codebook_size=32, decay=1.0)
    quantizer.start(source(2000, seed=1, dim=16))
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    quantizer(source(300, seed=3, dim=16).unsqueeze(0))
    for key, value in quantizer.state_dict().items():
        assert torch.allclose(value, before[key], atol=1e-4), key


def test_codebooks_that_were_set_are_kept() -> None:
    quantizer = quantizers.create("rvq", dim=4, codebook_size=8, stages=2)
    for stage in quantizer.codebooks:
        stage.assign(torch.arange(32.0).view(1, 8, 4), 1.0)
    quantizer.start(source(100, seed=1, dim=4))
    assert torch.equal(quantizer.codebooks[1].codes, torch.arange(32.0).view(1, 8, 4))


def test_heads_get_equally_much_to_tell() -> None:
    """Eigenvalue allocation: variances 8 to 1 in two groups of two, equal products."""
    variances = torch.tensor([8.0, 4.0, 2.0, 1.0])
    features = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)) * variances.sqrt()
    linear = torch.nn.Linear(4, 4)
    with torch.no_grad():
        pca.set_components(linear, features, groups=2)
    assert linear.weight.abs().argmax(1).tolist() == [0, 3, 1, 2]


@pytest.mark.parametrize("dim", [4, 16])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vq", {"heads": 5, "codebook_size": 64}),  # 20 channels of 16 components
        ("rvq", {"codebook_dim": 20, "codebook_size": 64, "stages": 2}),
        ("multiscale-rvq", {"codebook_dim": 20, "codebook_size": 64, "strides": (2, 1)}),
        ("rvq-factorized", {"codebook_size": 16, "stages": 2}),  # one channel is constant but for rounding
    ],
)
def test_channels_that_tell_nothing_have_no_gain(name: str, options: dict[str, Any], dim: int) -> None:
    """With gains of 11 to 2500, as they were, the first steps of a training undid the start."""
    quantizer = quantizers.create(name, dim=dim, **options)
    frames = source(20_000, seed=1, dim=dim) * torch.logspace(0, -4, dim)
    quantizer.start(frames)
    stages = quantizer.stages if name == "rvq-factorized" else [quantizer]
    for stage in stages:
        assert stage.project_out.weight.norm(dim=0).max() < 1.01
        assert stage.project_out.bias.abs().max() < 1.01


class Drifting(FSQ):
    """Its start is good. One parameter is 0 there and has a gain of 1000."""

    def __init__(self, dim: int, config: FSQConfig) -> None:
        super().__init__(dim, config)
        self.offset = torch.nn.Parameter(torch.zeros(()))

    def quantize(self, features: Tensor) -> Quantized:
        out = super().quantize(features)
        return out._replace(features=out.features + 1000 * self.offset)


def test_a_start_that_the_first_steps_undo_does_not_pass() -> None:
    config = FSQConfig(levels=(8,) * 8)
    start_can_be_trained(lambda: FSQ(conformance.DIM, config))
    with pytest.raises(AssertionError, match="after ten steps of training"):
        start_can_be_trained(lambda: Drifting(conformance.DIM, config))


def test_values_of_a_channel_are_those_of_max() -> None:
    """Max 1960, table I: the best quantizers of a Gaussian."""
    samples = gaussian().squeeze(1)
    for wanted in ([0.4528, 1.510], [0.2451, 0.7560, 1.344, 2.152]):
        levels = 2 * len(wanted)
        found = lloyd_max(samples, torch.linspace(-1.5, 1.5, levels, dtype=torch.float64), rounds=300)
        assert torch.allclose(found[levels // 2 :], torch.tensor(wanted, dtype=torch.float64), atol=2e-3)


def test_signs() -> None:
    assert math.isclose(best_deviation(1), math.sqrt(math.pi / 2), rel_tol=0.005)
    assert math.isclose(best_deviation(2), 1 / 0.9957, rel_tol=0.01)  # Max 1960, table II: steps
    assert math.isclose(best_deviation(3), 0.5 / 0.5860, rel_tol=0.01)
    values = torch.tensor([[-1.9, -0.4, 0.3, 0.8, 5.0]])
    assert torch.equal(staged_signs(values, 3), torch.tensor([[-1.75, -0.25, 0.25, 0.75, 1.75]]))
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    scores = scores * torch.tensor([3.0, 0.2]) + scores.sign()  # four clouds, stretched
    first = torch.linalg.qr(torch.randn(2, 2, generator=generator, dtype=torch.float64)).Q
    turn = iterative_quantization(scores, first, 1)
    assert torch.allclose(turn @ turn.mT, torch.eye(2, dtype=torch.float64), atol=1e-9)

    def error(turned: Tensor) -> float:
        signs = turned.sign() * turned.abs().mean(0)
        return float((turned - signs).square().mean())

    assert error(scores @ turn) < error(scores @ first)
    wide = iterative_quantization(scores, torch.eye(5, dtype=torch.float64)[:2], 1)
    assert torch.allclose(wide @ wide.mT, torch.eye(2, dtype=torch.float64), atol=1e-9)


def test_turned_components_leave_less_error_than_random_directions() -> None:
    features, fresh = source(6000, seed=1), source(4000, seed=2)
    quantizer = quantizers.create("lfq", dim=DIM, bits=24.0)
    quantizer.start(features)
    started = signal_to_noise(quantizer, fresh)
    with torch.no_grad():  # locality-sensitive hashing with the same read-out
        torch.nn.init.normal_(quantizer.project_in.weight, generator=torch.Generator().manual_seed(0))
        torch.nn.init.zeros_(quantizer.project_in.bias)
        pca.set_linear(quantizer.project_out, *pca.least_squares(quantizer._totals(features), features))
    assert started - signal_to_noise(quantizer, fresh) > 0.3


def test_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    units = torch.tensor([1e-6, 1, 1, 1e6, 1])
    inputs = torch.randn(200, 5, generator=generator, dtype=torch.float64) * units
    outputs = inputs @ torch.randn(5, 3, generator=generator, dtype=torch.float64) + 7
    weight, bias = pca.least_squares(inputs, outputs)
    assert torch.allclose(inputs @ weight.mT + bias, outputs, rtol=1e-9)
    doubled = torch.cat((inputs, inputs[:, 1:2], torch.full((200, 1), 3.0, dtype=torch.float64)), 1)
    weight, bias = pca.least_squares(doubled, outputs)
    assert torch.allclose(doubled @ weight.mT + bias, outputs, rtol=1e-9)
    assert torch.allclose(weight[:, 1], weight[:, 5])  # of least norm
    assert (weight[:, 6] == 0).all()


def test_components_without_variance_are_left_out() -> None:
    features = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]
    )
    assert pca.principal_components(features).rank == 2
    assert pca.principal_components(1000 + 0 * features).rank == 0
    assert pca.principal_components(features[:1]).rank == 0
    found = pca.principal_components(features)
    assert torch.allclose(found.scores(features).var(0, correction=0), found.variances)


def test_refusals_say_what_to_do() -> None:
    quantizer = quantizers.create("fsq", dim=8, levels=(5, 5))
    bad = torch.zeros(10, 8)
    bad[2:4, 1] = torch.nan
    with pytest.raises(quantizers.NonFiniteError, match=r"2 of 10 frames.*check the audio"):
        quantizer.start(bad)
    with pytest.raises(quantizers.NonFiniteError, match=r"fsq cannot quantize features.*2 of 10"):
        quantizer.eval()(bad.unsqueeze(0))
    with pytest.raises(quantizers.QuantizerError, match=r"at least one frame, not \[0, 8\]"):
        quantizer.start(torch.zeros(0, 8))
    with pytest.raises(quantizers.QuantizerError, match=r"stream 0 must lie in \[0, 25\), not in \[0, 25\]"):
        quantizer.decode(torch.tensor([[[0], [25]]]))


def test_sums_that_overflow_are_not_mistaken_for_features_that_are_not_finite() -> None:
    quantizer = quantizers.create("fsq", dim=8, levels=(5, 5)).eval()
    assert quantizer(torch.full((1, 4, 8), 3e38)).codes.shape == (1, 4, 1)


def test_the_table_of_starts(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fsq", "none", "simvq", "--bits", "20", "--frames", "500"])
    lines = capsys.readouterr().out.splitlines()
    name, bits, before, after, _, channels = lines[1].split()
    assert (name, bits, channels) == ("fsq", "19.93", "6")
    assert float(before) < 1 < 8 < float(after)
    assert "too many" in lines[2]
    assert len(lines) == 3
    main(["fsq", "vq", "--bits", "12", "--frames", "500", "--channels", "5", "--allocation", "water-filling"])
    fitted, vq = (line.split() for line in capsys.readouterr().out.splitlines()[1:])
    assert fitted[-1] == "5"
    assert vq[-1] == "-"
