"""Residual FSQ with scaled or normalised stages (Robust RFSQ, arXiv 2508.15860)."""

import copy

import pytest
import torch
from torch import Tensor

import quantizers
from quantizers import QuantizerError
from quantizers.checks.start_table import gauss_markov, signal_to_noise
from quantizers.parts.conditioned_stages import ConditionedStages

BOTH = pytest.mark.parametrize("conditioning", ["scale", "layernorm"])


def even(frames: int, channels: int, reach: float) -> Tensor:
    """Evenly spread values [frames, channels] on [-reach, reach], each channel in another order."""
    line = reach * (2 * (torch.arange(frames) + 0.5) / frames - 1)
    draw = torch.Generator().manual_seed(0)
    return torch.stack([line[torch.randperm(frames, generator=draw)] for _ in range(channels)], 1)


def total_of(part: ConditionedStages, values: Tensor) -> Tensor:
    return torch.stack(part.values(part(values))).sum(0)


@BOTH
def test_stages_begin_as_those_of_a_plain_residual_fsq(conditioning: str) -> None:
    torch.manual_seed(0)
    plain = quantizers.create("residual-fsq", dim=16, levels=(3, 4, 2, 8), stages=3).eval()
    other = quantizers.create(
        "residual-fsq", dim=16, levels=(3, 4, 2, 8), stages=3, conditioning=conditioning
    ).eval()
    other.load_state_dict(plain.state_dict(), strict=False)
    x = 3 * torch.randn(2, 500, 16)
    first, second = plain(x), other(x)
    same = (first.codes == second.codes).all(-1)
    assert same.float().mean() > 0.999  # but for rounding at the edges of cells
    torch.testing.assert_close(first.features[same], second.features[same], atol=1e-5, rtol=1e-5)


@BOTH
@pytest.mark.parametrize(("level", "stages"), [(3, 2), (2, 4), (5, 2)])
def test_stages_of_an_even_source_are_one_even_quantizer(conditioning: str, level: int, stages: int) -> None:
    """K stages of L levels leave what L^K even levels leave, (2 R / L^K)^2 / 12: no code is wasted."""
    part = ConditionedStages([level], stages, conditioning).eval()
    reach = 1 + 1 / (level - 1)
    values = even(level**stages * 400, 1, reach)
    levels = part(values)
    error = (total_of(part, values) - values).square().mean().item()
    assert error == pytest.approx((2 * reach / level**stages) ** 2 / 12, rel=0.01)
    assert len(levels.unique(dim=0)) == level**stages


@BOTH
def test_the_map_of_a_stage_is_inverted_exactly(conditioning: str) -> None:
    """Levels of what is already quantized are the same, in double precision and without error."""
    torch.manual_seed(0)
    part = ConditionedStages([3, 4, 9], 4, conditioning).double()
    for value in part.parameters():
        torch.nn.init.normal_(value, std=0.1)
    part.train()
    for _ in range(3):
        part(torch.randn(400, 3, dtype=torch.float64) + 0.3)
    part.eval()
    for stage in range(4):
        levels = torch.stack([torch.randint(size, (200,)) for size in (3, 4, 9)], 1)
        assert torch.equal(part._level(stage, part._value(stage, levels)), levels)


def test_normalised_stages_take_a_residual_of_any_size_and_place() -> None:
    """A source that fills a hundredth of the range, off its middle, would lie in one cell of plain stages."""
    values = even(9 * 500, 2, 0.015) + 0.2
    part = ConditionedStages([3, 3], 2, "layernorm")
    part.settle(values, values, apart=True)
    error = (total_of(part.eval(), values) - values).square().mean().item()
    assert error == pytest.approx((2 * 0.015 / 9) ** 2 / 12, rel=0.05)


@BOTH
@pytest.mark.parametrize("stages", [2, 4])
def test_a_start_from_data_is_better_than_that_of_plain_stages(conditioning: str, stages: int) -> None:
    features, fresh = gauss_markov(6000, 32, 0.98, seed=1), gauss_markov(4000, 32, 0.98, seed=2)
    ratios = []
    for each in ("none", conditioning):
        torch.manual_seed(0)
        quantizer = quantizers.create("residual-fsq", dim=32, bits=24.0, stages=stages, conditioning=each)
        random = signal_to_noise(quantizer, fresh)
        quantizer.start(features)
        ratios.append(signal_to_noise(quantizer, fresh))
        assert random < 2 < ratios[-1]
    assert ratios[1] > ratios[0] + 0.25


def test_statistics_follow_the_residual_of_each_stage_in_training_alone() -> None:
    torch.manual_seed(0)
    part = ConditionedStages([5], 2, "layernorm").train()
    values = 0.1 * torch.randn(4000, 1) + 0.5
    part(values)
    torch.testing.assert_close(part.mean[0], values.mean(0))
    torch.testing.assert_close(part.variance[0], values.var(0, correction=0), rtol=1e-4, atol=0)
    left = values - part.eval()._value(0, part._level(0, values))
    torch.testing.assert_close(part.variance[1], left.var(0, correction=0), rtol=1e-3, atol=1e-8)
    before = copy.deepcopy(part.state_dict())
    part(values + 1)
    assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())
    part.train()
    part(values + 1)
    torch.testing.assert_close(part.mean[0], values.mean(0) + 0.01)  # a hundredth of the way
    for bad in (torch.nan, torch.inf):
        before = copy.deepcopy(part.state_dict())
        part(torch.full((10, 1), bad))
        assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())


@BOTH
def test_training_moves_the_scales_to_where_levels_fit(conditioning: str) -> None:
    """The gradient of a scale is that of its decoder; from a scale that is a third off, the error falls."""
    torch.manual_seed(0)
    part = ConditionedStages([3], 2, conditioning)
    values = even(4500, 1, 1.5)
    torch.nn.init.constant_(part.log_scale, 0.3)
    optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
    errors = []
    for _ in range(150):
        error = (total_of(part, values) - values).square().mean()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert errors[-1] < 0.6 * errors[0]


def test_groups_have_stages_of_their_own() -> None:
    quantizer = quantizers.create("grouped-residual-fsq", dim=16, bits=16.0, conditioning="layernorm")
    quantizer.start(torch.randn(3000, 16, generator=torch.Generator().manual_seed(0)).cumsum(1))
    first, second = (group.conditioned for group in quantizer.groups)
    assert not torch.equal(first.variance, second.variance)
    out = quantizer.eval()(torch.randn(2, 30, 16))
    assert torch.equal(quantizer.decode(out.codes), out.features)


def test_the_option_is_told_only_where_it_differs_and_must_be_known() -> None:
    options = {"levels": [4, 4]}
    assert "conditioning" not in quantizers.fit_options("residual-fsq", dim=8, options=options)
    with pytest.raises(QuantizerError, match="none, scale, layernorm"):
        quantizers.create("residual-fsq", dim=8, conditioning="batchnorm")
