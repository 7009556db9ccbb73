"""Multi-scale RVQ against `rvq`, against stages computed by hand, and its rates and counts."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import quantizers
from quantizers import QuantizerError
from quantizers.parts.strides import pool
from quantizers.usage import UsageCounter


def features(batch: int = 2, frames: int = 22, dim: int = 8) -> torch.Tensor:
    steps = torch.randn(batch, frames, dim, generator=torch.Generator().manual_seed(0))
    return steps.cumsum(1) / 4  # neighbours are alike, as those of speech


def test_strides_of_one_are_rvq() -> None:
    options = {"dim": 8, "codebook_size": 16, "codebook_dim": 4, "dropout": 0.5}
    torch.manual_seed(0)
    one = quantizers.create("rvq", stages=3, **options)
    other = quantizers.create("multiscale-rvq", strides=(1, 1, 1), **options)
    other.load_state_dict(one.state_dict())
    for training in (True, False):
        made = []
        for quantizer in (one, other):
            torch.manual_seed(1)
            inputs = features().requires_grad_()
            out = quantizer.train(training)(inputs)
            (out.features.square().sum() + out.loss).backward()
            made.append((out.features, out.codes, out.loss, inputs.grad))
        for first, second in zip(*made, strict=True):
            assert torch.equal(first, second)


def test_stages_by_hand() -> None:
    """Average pooling and nearest upsampling of torch, at a length that all strides divide."""
    torch.manual_seed(0)
    quantizer = quantizers.create("multiscale-rvq", dim=8, strides=(4, 2, 1), codebook_size=16).eval()
    inputs = features(frames=24)
    residual, total = inputs.mT, torch.zeros_like(inputs.mT)
    for stride, book in zip((4, 2, 1), quantizer.codebooks, strict=True):
        pooled = F.avg_pool1d(residual, stride)
        index = torch.cdist(pooled.mT, book.codes[0]).argmin(-1)
        chosen = F.interpolate(book.codes[0][index].mT, scale_factor=stride, mode="nearest")
        residual, total = residual - chosen, total + chosen
    out = quantizer(inputs)
    assert torch.allclose(out.features, total.mT, atol=1e-6)
    assert torch.equal(out.codes[:, ::1, 2], index)


def test_the_last_block_is_the_mean_of_its_frames() -> None:
    inputs = features(frames=10)
    pooled = pool(inputs, 4)
    assert pooled.shape == (2, 3, 8)
    assert torch.allclose(pooled[:, 2], inputs[:, 8:].mean(1))
    # What comes later in other blocks does not change it: a prefix of whole blocks has the same codes.
    quantizer = quantizers.create("multiscale-rvq", dim=8, codebook_size=16).eval()
    assert torch.equal(quantizer.encode(inputs)[:, :8], quantizer.encode(inputs[:, :8]))


def test_rates() -> None:
    quantizer = quantizers.create("multiscale-rvq", dim=8, strides=(4, 2, 1), codebook_size=4096)
    assert quantizer.bits_per_frame == 21.0  # 12 / 4 + 12 / 2 + 12
    assert quantizer.tokens_per_frame == 1.75
    assert [quantizer.prefix(stages).bits_per_frame for stages in (1, 2, 3)] == [3.0, 9.0, 21.0]
    assert [quantizer.prefix(stages).stream_strides for stages in (1, 2)] == [(4,), (4, 2)]


@pytest.mark.parametrize("bits", [12.0, 20.0, 22.75, 40.0, 64.0])
def test_bits_choose_codes_and_stages(bits: float) -> None:
    quantizer = quantizers.create("multiscale-rvq", dim=8, bits=bits)
    assert abs(quantizer.bits_per_frame / bits - 1) < 0.003
    assert max(quantizer.codebook_sizes) <= 8192
    assert quantizer.stream_strides == tuple(sorted(quantizer.stream_strides, reverse=True))
    assert set(quantizer.stream_strides) == {4, 2, 1}


def test_strides_are_checked() -> None:
    with pytest.raises(QuantizerError, match="strides must have at least one"):
        quantizers.create("multiscale-rvq", dim=8, strides=())
    with pytest.raises(QuantizerError, match="each of strides must be an integer of at least 1, not 0"):
        quantizers.create("multiscale-rvq", dim=8, strides=(2, 0), bits=12.0)
    with pytest.raises(QuantizerError, match="codebook_size and bits"):
        quantizers.create("multiscale-rvq", dim=8, codebook_size=4, bits=12.0)


def test_a_start_from_data_fits_each_scale() -> None:
    quantizer = quantizers.create("multiscale-rvq", dim=8, strides=(4, 2, 1), codebook_size=64)
    data = features(1, 4000)[0]
    quantizer.start(data)
    out = quantizer.eval()(data[None])
    errors = []
    for stages in (1, 2, 3):
        made = quantizer.prefix(stages)(data[None]).features
        errors.append(float((made - data).square().mean() / data.square().mean()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.2
    for stream, stride in enumerate((4, 2, 1)):
        assert len(out.codes[0, ::stride, stream].unique()) > 50


def test_each_token_is_counted_once() -> None:
    quantizer = quantizers.create("multiscale-rvq", dim=8, strides=(4, 2, 1), codebook_size=16).eval()
    counter = UsageCounter.of(quantizer)
    clips = [features(2, 22), features(1, 7)]
    for clip in clips:
        codes = quantizer.encode(clip)
        counter.update(codes, quantizer.factors(codes))
    report = counter.report()
    assert report["tokens"] == 51
    assert [factor["tokens"] for factor in report["factors"]] == [6 + 6 + 2, 11 + 11 + 4, 22 + 22 + 7]
    for place, stride in enumerate((4, 2, 1)):
        tokens = torch.cat([quantizer.encode(clip)[:, ::stride, place].flatten() for clip in clips])
        expected = np.bincount(tokens.numpy(), minlength=16)
        assert (counter.histograms()[f"factor_{place}"] == expected).all()
    bits = sum(factor["entropy_bits"] * factor["tokens"] for factor in report["factors"])
    assert math.isclose(report["entropy_bits_per_frame"], bits / 51)
    assert report["nominal_bits_per_frame"] == quantizer.bits_per_frame == 7.0
    # A joint code is that of the seven tokens of four frames: 5 + 5 + 1 whole periods.
    assert report["joint"]["tokens"] == 11
    assert report["joint"]["codes"] == 16**7
    assert report["joint"]["frames"] == 4
    # The first stage alone: its 14 tokens are the joint codes, each of four frames.
    part = quantizer.prefix(1)
    counter = UsageCounter.of(part)
    for clip in clips:
        counter.update(part.encode(clip))
    joint = counter.report()["joint"]
    assert (joint["tokens"], joint["codes"], joint["frames"]) == (14, 16, 4)
