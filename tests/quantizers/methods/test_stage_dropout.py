"""Stages that are dropped in training, and quantizers of the first stages of another."""

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
CUT = {  # without dropout, or with that of a library
    "grouped-rvq": {"name": "grouped-rvq", "codebook_size": 16, "stages": 4, "groups": 2},
    "residual-simvq": {"name": "residual-simvq", "codebook_size": 16, "stages": 4},
    "rvq-factorized": {"name": "rvq-factorized", "codebook_size": 16, "stages": 4, "codebook_dim": 6},
    "residual-lfq": {"name": "residual-lfq", "channels": 6, "stages": 4},
}
ALL = pytest.mark.parametrize("case", STAGED)
FEATURES = gauss_markov(3000, 16, 0.95, seed=1)


def started(case: str, **options: object) -> quantizers.Quantizer:
    torch.manual_seed(0)
    quantizer = quantizers.create(dim=16, **{**STAGED, **CUT}[case], **options)
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


@ALL
def test_a_clip_in_training_comes_out_of_a_number_of_first_stages(case: str) -> None:
    quantizer = started(case, dropout=1.0)
    clips = FEATURES[:640].view(64, 10, 16)
    wanted = [quantizer.eval().prefix(stages)(clips).features for stages in (1, 2, 3, 4)]
    torch.manual_seed(1)
    out = quantizer.train()(clips)
    distances = torch.stack([(out.features - each).abs().amax((1, 2)) for each in wanted])
    tolerance = 0.2 if case in ("rvq-diveq", "layernorm") else 1e-5  # a noisy direction; moving averages
    nearest = distances.min(0)
    assert nearest.values.max() < tolerance
    assert len(nearest.indices.unique()) == 4  # each number occurs


def test_without_dropout_training_is_as_before() -> None:
    assert "dropout" not in quantizers.fit_options("rvq", dim=8, options={"codebook_size": 8})
    with pytest.raises(QuantizerError, match="dropout must be a number from 0 to 1"):
        quantizers.create("rvq", dim=8, dropout=2)


def trained(dropout: float) -> tuple[float, float]:
    """Signal-to-noise ratios of one stage and of all, after a training in which codes and encoder move."""
    torch.manual_seed(0)
    quantizer = quantizers.create(
        "residual-fsq", dim=8, levels=(3, 3), stages=3, dropout=dropout, conditioning="scale"
    )
    source: Tensor = gauss_markov(640, 8, 0.95, seed=1).view(64, 10, 8)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    for _ in range(300):
        loss = (quantizer.train()(source).features - source).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    flat = source.flatten(0, 1)
    return signal_to_noise(quantizer.eval().prefix(1), flat), signal_to_noise(quantizer, flat)


def test_dropout_makes_first_stages_better_for_a_little_of_the_whole() -> None:
    (first, whole), (first_dropped, whole_dropped) = trained(0.0), trained(1.0)
    assert first_dropped > first + 0.3
    assert whole_dropped > whole - 1.5
