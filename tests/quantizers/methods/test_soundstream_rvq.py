"""The residual bottleneck of Lyra 2: rates by stages, released codebooks, and training from them."""

import pytest
import torch
from torch import Tensor

import quantizers
from quantizers import QuantizerError

NAME = "soundstream-rvq"


@pytest.fixture
def codebooks() -> Tensor:
    """46 codebooks of 16 codes, finer from stage to stage, as a residual quantizer has them."""
    generator = torch.Generator().manual_seed(0)
    scales = 0.85 ** torch.arange(46)
    return scales[:, None, None] * torch.randn(46, 16, 8, generator=generator)


@pytest.mark.parametrize(
    ("bits", "stages"), [(1, 1), (4, 1), (13, 3), (20, 5), (64, 16), (120, 30), (184, 46)]
)
def test_bits_choose_the_first_stages(bits: float, stages: int) -> None:
    quantizer = quantizers.create(NAME, dim=8, bits=bits)
    assert quantizer.codebook_sizes == (16,) * stages
    assert quantizer.bits_per_frame == 4 * stages
    assert quantizers.create(NAME, dim=8, stages=stages).codebook_sizes == (16,) * stages


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stages": 47}, "at most 46, which were released"),
        ({"stages": 0}, "stages must be an integer of at least 1"),
        ({"bits": 190.0}, "190 bits are more than the released 46 stages of 4 bits; use rvq"),
        ({"bits": 20.0, "stages": 5}, "stages and bits both fix the rate"),
        ({"bits": 0.5}, "at least 1 bit"),
        ({"codebook_size": 32}, "codebook_size is fixed to 16 by the name"),
        ({"codebook_dim": 4}, "codebook_dim is fixed to None by the name"),
    ],
)
def test_refusals(options: dict[str, float], words: str) -> None:
    with pytest.raises(QuantizerError, match=words):
        quantizers.create(NAME, dim=8, **options)


def test_released_codes_are_searched_stage_by_stage(codebooks: Tensor) -> None:
    quantizer = quantizers.create(NAME, dim=8, stages=9).eval()
    quantizer.load_released({"codebooks": codebooks})
    features = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(1))
    output = quantizer(features)
    residual, codes = features, []
    for codebook in codebooks[:9]:
        codes.append((residual.unsqueeze(-2) - codebook).square().sum(-1).argmin(-1))
        residual = residual - codebook[codes[-1]]
    assert torch.equal(output.codes, torch.stack(codes, -1))
    torch.testing.assert_close(output.features, features - residual)
    fewer = quantizers.create(NAME, dim=8, stages=4).eval()
    fewer.load_released({"codebooks": codebooks})
    assert torch.equal(fewer.encode(features), output.codes[..., :4])


def test_training_begins_at_the_released_codes(codebooks: Tensor) -> None:
    features = torch.randn(4, 100, 8, generator=torch.Generator().manual_seed(1))
    quantizer = quantizers.create(NAME, dim=8, stages=3)
    quantizer.load_released({"codebooks": codebooks})
    before = (quantizer.eval()(features).features - features).square().mean()
    quantizer.train()
    for _ in range(200):
        quantizer(features)
    first = quantizer.codebooks[0].codes[0]
    assert not torch.equal(first, codebooks[0])
    after = (quantizer.eval()(features).features - features).square().mean()
    assert after < 0.9 * before


def test_released_codes_stay_where_nothing_moves_them(codebooks: Tensor) -> None:
    quantizer = quantizers.create(NAME, dim=8, stages=3, decay=1.0, revive_below=0.0)
    quantizer.load_released({"codebooks": codebooks})
    for seed in range(20):
        quantizer(torch.randn(4, 100, 8, generator=torch.Generator().manual_seed(seed)))
    for stage, codebook in zip(quantizer.codebooks, codebooks, strict=False):
        assert torch.equal(stage.codes[0], codebook)


def test_released_codes_are_part_of_the_state(codebooks: Tensor) -> None:
    quantizer, other = (quantizers.create(NAME, dim=8, stages=3) for _ in range(2))
    quantizer.load_released({"codebooks": codebooks})
    other.load_state_dict(quantizer.state_dict())
    features = torch.randn(1, 30, 8)
    for bottleneck in (quantizer, other):  # no k-means at the first batch of either
        bottleneck(features)
    assert torch.equal(other.codebooks[2].codes, quantizer.codebooks[2].codes)


@pytest.mark.parametrize(
    "given", [{}, {"codebooks": torch.zeros(46, 16, 64)}, {"codebooks": torch.zeros(5, 16, 8)}]
)
def test_codebooks_that_do_not_fit(given: dict[str, Tensor]) -> None:
    quantizer = quantizers.create(NAME, dim=8, stages=6)
    with pytest.raises(QuantizerError, match=r"takes codebooks \[6 or more, 16, 8\]"):
        quantizer.load_released(given)


def test_only_what_was_released_can_be_loaded(codebooks: Tensor) -> None:
    assert quantizers.entry(NAME).cls.released == "soundstream"
    others = [name for name in quantizers.available() if name != NAME]
    assert not any(quantizers.entry(name).cls.released for name in others)
    with pytest.raises(QuantizerError, match="rvq is not the bottleneck of a released codec"):
        quantizers.create("rvq", dim=8).load_released({"codebooks": codebooks})
