"""Stages that are dropped in training, and quantizers of the first stages of another."""

import math

import pytest
import torch
from torch import Tensor

import quantizers
from quantizers import QuantizerError
from quantizers.checks.start_table import gauss_markov, signal_to_noise
from quantizers.parts.stage_dropout import kept_stages

STAGED = {
    "rvq": {"name": "rvq", "codebook_size": 16, "stages": 4},
    "rvq-projected": {"name": "rvq", "codebook_size": 16, "stages": 4, "codebook_dim": 6},
    "rvq-diveq": {"name": "rvq", "codebook_size": 16, "stages": 4, "gradient": "diveq"},
    "soundstream-rvq": {"name": "soundstream-rvq", "stages": 4},
    "residual-fsq": {"name": "residual-fsq", "levels": (3, 2, 4), "stages": 4},
    "scale": {"name": "residual-fsq", "levels": (3, 2, 4), "stages": 4, "conditioning": "scale"},
    "layernorm": {"name": "residual-fsq", "levels": (3, 2, 4), "stages": 4, "conditioning": "layernorm"},
    "grouped": {"name": "grouped-residual-fsq", "levels": (3, 2), "stages": 4, "groups": 2},
}
CHANNELS = {  # stages are channels, pairs or blocks, whose codes share a stream
    "fsq": {"name": "fsq", "levels": (5, 4, 7, 3)},
    "fsq-noise": {"name": "fsq", "levels": (5, 4, 7, 3), "gradient": "noise"},
    "hex": {"name": "q2d2-hex", "levels": (5, 5, 4, 5, 7, 7, 6, 5)},
    "rotation": {"name": "q2d2-rect", "levels": (5, 5, 4, 5, 7, 7, 6, 5), "gradient": "rotation"},
    "released": {"name": "q2d2-hex-released", "levels": (5, 5, 5, 5, 7, 7, 7, 7)},
    "cube": {"name": "lattice", "lattice": "A2", "counts": (5, 3, 4, 3, 6, 4, 5, 3)},
    "voronoi": {"name": "lattice", "lattice": "D4", "bound": "voronoi", "counts": (3, 4, 3, 4)},
    "learned": {"name": "learned-lattice", "counts": (5, 6, 7, 5)},
    "shell": {"name": "lattice", "lattice": "D4", "bound": "shell", "counts": (1, 1, 1, 1)},
}
CUT = {  # without dropout, or with that of a library
    "grouped-rvq": {"name": "grouped-rvq", "codebook_size": 16, "stages": 4, "groups": 2},
    "residual-simvq": {"name": "residual-simvq", "codebook_size": 16, "stages": 4},
    "rvq-factorized": {"name": "rvq-factorized", "codebook_size": 16, "stages": 4, "codebook_dim": 6},
    "residual-lfq": {"name": "residual-lfq", "channels": 6, "stages": 4},
}
FEATURES = gauss_markov(3000, 16, 0.95, seed=1)


def started(case: str, **options: object) -> quantizers.Quantizer:
    torch.manual_seed(0)
    quantizer = quantizers.create(dim=16, **{**STAGED, **CUT, **CHANNELS}[case], **options)
    quantizer.start(FEATURES)
    return quantizer


@pytest.mark.parametrize("case", [*STAGED, *CUT])
def test_a_prefix_has_the_first_codes_and_is_exact(case: str) -> None:
    quantizer = started(case).eval()
    fresh = gauss_markov(400, 16, 0.95, seed=2).view(2, 200, 16)
    whole, state = quantizer(fresh), {key: value.clone() for key, value in quantizer.state_dict().items()}
    generator = torch.get_rng_state()
    ratios, rates = [], []
    assert quantizer.depth == 4
    for stages in (1, 2, 3, 4):
        part = quantizer.prefix(stages)
        out = part(fresh)
        groups = len(quantizer.codebook_sizes) // 4
        first = whole.codes.unflatten(-1, (groups, 4))[..., :stages].flatten(2)
        assert torch.equal(out.codes, first)
        assert torch.equal(part.decode(first), out.features)
        assert part.bits_per_frame == pytest.approx(quantizer.bits_per_frame * stages / 4)
        assert part.name == quantizer.name
        ratios.append(signal_to_noise(part, fresh.flatten(0, 1)))
        rates.append(part.bits_per_frame)
    assert torch.equal(part.decode(whole.codes), whole.features)
    assert ratios == sorted(ratios), "more stages leave more error"
    assert ratios[3] > ratios[0] + 1
    assert torch.equal(generator, torch.get_rng_state()), "a prefix draws from the global generator"
    assert all(torch.equal(value, state[key]) for key, value in quantizer.state_dict().items())


def test_a_prefix_shares_weights() -> None:
    quantizer = started("rvq-projected").eval()
    part = quantizer.prefix(2)
    with torch.no_grad():
        quantizer.project_out.weight.zero_()
    assert (part(FEATURES[None]).features - part.project_out.bias).abs().max() == 0


@pytest.mark.parametrize("case", CHANNELS)
def test_first_channels_have_the_first_factors_and_are_exact(case: str) -> None:
    quantizer = started(case, dropout=0.5).eval()
    fresh = gauss_markov(400, 16, 0.95, seed=2).view(2, 200, 16)
    factors = quantizer.factors(quantizer(fresh).codes)
    state = {key: value.clone() for key, value in quantizer.state_dict().items()}
    ratios = []
    assert quantizer.stage_name in ("channels", "pairs", "blocks")
    assert quantizer.depth == 4
    for stages in (1, 2, 3, 4):
        part = quantizer.prefix(stages)
        out = part(fresh)
        first = factors[..., : len(part.factor_sizes)]
        assert torch.equal(part.factors(out.codes), first)
        assert torch.equal(part.decode(part.from_factors(first)), out.features)
        assert torch.equal(part.decode(out.codes), out.features)
        assert part.bits_per_frame == pytest.approx(
            math.log2(math.prod(quantizer.factor_sizes[: first.shape[-1]]))
        )
        assert part.depth == stages
        ratios.append(signal_to_noise(part, fresh.flatten(0, 1)))
    assert ratios == sorted(ratios), "more channels leave more error"
    assert ratios[3] > ratios[0] + 0.3
    assert all(torch.equal(value, state[key]) for key, value in quantizer.state_dict().items())


@pytest.mark.parametrize("case", CHANNELS)
def test_without_dropout_channels_cannot_be_left_out(case: str) -> None:
    assert started(case).depth == 1


def test_the_first_channels_share_weights() -> None:
    quantizer = started("fsq", dropout=0.5).eval()
    part = quantizer.prefix(2)
    with torch.no_grad():
        quantizer.project_out.weight[:, :2] = 0.0
    assert (part(FEATURES[None]).features - part.project_out.bias).abs().max() == 0


@pytest.mark.parametrize(("name", "stages"), [("rvq", 5), ("rvq", 0), ("fsq", 2)])
def test_a_prefix_that_cannot_be_is_refused(name: str, stages: int) -> None:
    quantizer = started(name) if name == "rvq" else quantizers.create(name, dim=16)
    with pytest.raises(QuantizerError, match="stage"):
        quantizer.prefix(stages)
    assert quantizer.prefix(quantizer.depth) is quantizer


def test_numbers_of_stages_are_evenly_drawn() -> None:
    torch.manual_seed(0)
    kept = kept_stages(20_000, 4, 0.5, torch.device("cpu"))
    numbers = kept.sum(0).flatten()
    assert torch.equal(kept.flatten(1), torch.arange(4).unsqueeze(1) < numbers)  # the first ones
    shares = numbers.bincount(minlength=5) / 20_000
    wanted = torch.tensor([0.0, 0.125, 0.125, 0.125, 0.625])
    torch.testing.assert_close(shares, wanted, atol=0.01, rtol=0)
    assert kept_stages(10, 4, 0.0, torch.device("cpu")) is None
    assert kept_stages(10, 1, 1.0, torch.device("cpu")) is None


@pytest.mark.parametrize("case", [*STAGED, *CHANNELS])
def test_a_clip_in_training_comes_out_of_a_number_of_first_stages(case: str) -> None:
    quantizer = started(case, dropout=1.0)
    clips = FEATURES[:640].view(64, 10, 16)
    wanted = [quantizer.eval().prefix(stages)(clips).features for stages in (1, 2, 3, 4)]
    torch.manual_seed(1)
    out = quantizer.train()(clips)
    distances = torch.stack([(out.features - each).abs().amax((1, 2)) for each in wanted])
    # A noisy direction; moving averages; uniform noise of a cell.
    tolerance = {"rvq-diveq": 0.2, "layernorm": 0.2, "fsq-noise": 1.0}.get(case, 1e-5)
    nearest = distances.min(0)
    assert nearest.values.max() < tolerance
    assert len(nearest.indices.unique()) == 4  # each number occurs


def test_without_dropout_training_is_as_before() -> None:
    assert "dropout" not in quantizers.fit_options("rvq", dim=8, options={"codebook_size": 8})
    with pytest.raises(QuantizerError, match="dropout must be a number from 0 to 1"):
        quantizers.create("rvq", dim=8, dropout=2)


def train(quantizer: quantizers.Quantizer) -> Tensor:
    """Train briefly on a correlated source, and return its blocks [640, 8]."""
    source: Tensor = gauss_markov(640, 8, 0.95, seed=1).view(64, 10, 8)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    for _ in range(300):
        loss = (quantizer.train()(source).features - source).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return source.flatten(0, 1)


def trained(dropout: float) -> tuple[float, float]:
    """Signal-to-noise ratios of one stage and of all, after a training in which codes and encoder move."""
    torch.manual_seed(0)
    quantizer = quantizers.create(
        "residual-fsq", dim=8, levels=(3, 3), stages=3, dropout=dropout, conditioning="scale"
    )
    flat = train(quantizer)
    return signal_to_noise(quantizer.eval().prefix(1), flat), signal_to_noise(quantizer, flat)


def test_dropout_makes_first_stages_better_for_a_little_of_the_whole() -> None:
    (first, whole), (first_dropped, whole_dropped) = trained(0.0), trained(1.0)
    assert first_dropped > first + 0.3
    assert whole_dropped > whole - 1.5


def trained_fsq(dropout: float) -> list[float]:
    """Signal-to-noise ratios of 1 to 4 channels after one training from a random start."""
    torch.manual_seed(0)
    quantizer = quantizers.create("fsq", dim=8, levels=(7, 7, 7, 7), dropout=dropout)
    flat = train(quantizer)
    return [
        signal_to_noise(quantizer.eval().prefix(stages), flat) for stages in range(1, quantizer.depth + 1)
    ]


def test_one_training_of_fsq_gives_a_curve() -> None:
    curve, (alone,) = trained_fsq(1.0), trained_fsq(0.0)
    assert curve == sorted(curve)
    assert curve[3] > curve[0] + 2
    assert curve[3] > alone - 2
