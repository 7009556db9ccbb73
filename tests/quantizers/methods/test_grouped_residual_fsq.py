"""Grouped residual FSQ is residual FSQ in each group."""

import pytest
import torch

import quantizers
from quantizers import QuantizerError


def test_each_group_is_a_residual_fsq() -> None:
    torch.manual_seed(0)
    grouped = quantizers.create("grouped-residual-fsq", dim=16, levels=(3, 4), stages=2, groups=2).eval()
    x = torch.randn(2, 50, 16)
    out = grouped(x)
    for number, (group, part) in enumerate(zip(grouped.groups, x.chunk(2, -1), strict=True)):
        alone = group(part)
        assert torch.equal(out.codes[..., 2 * number : 2 * number + 2], alone.codes)
        assert torch.equal(out.features[..., 8 * number : 8 * number + 8], alone.features)
    assert grouped.codebook_sizes == (12,) * 4
    assert grouped.factor_sizes == (3, 4) * 4


@pytest.mark.parametrize("bits", [8.0, 12.0, 16.0, 19.0, 24.0, 40.0])
def test_rates_are_within_two_percent(bits: float) -> None:
    quantizer = quantizers.create("grouped-residual-fsq", dim=32, bits=bits)
    assert abs(quantizer.bits_per_frame / bits - 1) < 0.02
    assert max(quantizer.config.levels) <= 4


def test_a_start_from_data_is_that_of_each_group() -> None:
    features = torch.randn(5_000, 16, generator=torch.Generator().manual_seed(0)).cumsum(1)
    grouped = quantizers.create("grouped-residual-fsq", dim=16, bits=24.0)
    alone = quantizers.create("residual-fsq", dim=8, bits=12.0, channels=4)
    grouped.start(features)
    alone.start(features[:, :8])
    first = grouped.groups[0]
    assert first.config == alone.config
    assert torch.equal(first.project_in.weight, alone.project_in.weight)


def test_groups_that_do_not_divide_the_features_are_refused() -> None:
    with pytest.raises(QuantizerError, match="3 groups do not divide the 16 channels"):
        quantizers.create("grouped-residual-fsq", dim=16, groups=3)
