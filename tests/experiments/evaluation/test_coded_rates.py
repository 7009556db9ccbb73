"""Coded rates of a test set, against sources whose rates are known and against bytes that were written."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import quantizers
from codec import backbones, model
from codec.bitstream import payload, recordings
from experiments.evaluation.coded_rates import conditional_entropy, of_test_set

FRAME_RATE = 50.0


def quantizer_of(*sizes: int) -> Any:
    return SimpleNamespace(streams=1, factor_sizes=sizes, factor_strides=(1,) * len(sizes))


def walks(count: int, frames: int, seed: int = 0) -> list[Any]:
    """Steps of -1, 0 or 1 on a circle of 16 codes: log2(3) bits per frame given the one before, 4 without."""
    steps = np.random.default_rng(seed).integers(-1, 2, (count, frames, 1))
    return [*((np.cumsum(steps, axis=1) + 100) % 16).astype(np.uint8)]


def test_a_source_with_memory() -> None:
    values = of_test_set(quantizer_of(16), walks(30, 400), FRAME_RATE)
    assert values["rate/conditional_entropy_bitrate"] == pytest.approx(FRAME_RATE * math.log2(3), rel=0.01)
    assert values["rate/coded_stream"] == pytest.approx(FRAME_RATE * math.log2(3), rel=0.03)  # and learning
    assert values["rate/coded_stream"] < values["rate/coded"] < 0.65 * 4 * FRAME_RATE
    assert values["rate/coded"] == values["rate/coded_context"]
    assert 0.94 * 4 * FRAME_RATE < values["rate/coded_adaptive"] < 4 * FRAME_RATE  # a walk dwells


def test_a_source_without_memory_is_never_above_nominal() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (20, 300, 2))
    values = of_test_set(quantizer_of(16, 16), [*codes], FRAME_RATE)
    nominal = 2 * 4 * FRAME_RATE
    assert values["rate/coded"] <= nominal
    assert values["rate/coded"] == pytest.approx(nominal, rel=0.002)
    assert values["rate/conditional_entropy_bitrate"] == pytest.approx(nominal, rel=0.002)


def test_the_order_of_utterances_plays_no_part_but_in_one_stream() -> None:
    utterances = [*walks(10, 200), *np.zeros((10, 200, 1), dtype=np.int64)]
    forwards, backwards = (
        of_test_set(quantizer_of(16), order, FRAME_RATE) for order in (utterances, utterances[::-1])
    )
    for name in ("coded", "coded_static", "coded_adaptive", "coded_context"):
        assert forwards[f"rate/{name}"] == pytest.approx(backwards[f"rate/{name}"])
    assert forwards["rate/coded_stream"] != backwards["rate/coded_stream"]


def test_a_conditional_entropy_from_too_few_pairs_is_missing() -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (10, 300, 1))
    values = of_test_set(quantizer_of(1024), [*codes], FRAME_RATE)
    assert "rate/conditional_entropy_bitrate" not in values
    assert values["rate/coded"] == pytest.approx(10 * FRAME_RATE, rel=0.01)
    assert conditional_entropy(np.array([3]), [1]) is None
    assert conditional_entropy(np.zeros(50, dtype=np.int64), [25, 25]) == 0
    large = np.tile(np.array([2**61, 5]), 60)  # pairs of values whose products no integer holds
    assert conditional_entropy(large, [120]) == pytest.approx(0, abs=0.02)


def test_nothing_to_code() -> None:
    assert of_test_set(SimpleNamespace(streams=0, factor_sizes=()), [], FRAME_RATE) == {}
    assert of_test_set(quantizer_of(4), [np.zeros((0, 1), dtype=np.int64)], FRAME_RATE) == {}


@pytest.mark.parametrize("name", ["fsq", "rvq", "lfq"])
def test_rates_are_those_of_the_bytes_that_are_written(name: str) -> None:
    """The metric is the size of the payloads of `codecbench encode`, two bytes a file apart at most."""
    codec = model.build(
        backbones.get("mdct-tiny"), lambda dim: quantizers.create(name, dim=dim, bits=14), seed=0
    ).eval()
    random = torch.Generator().manual_seed(0)
    clips = [0.1 * torch.randn(length, generator=random) for length in (100, 9_000, 20_000)]
    coded = [recordings.encode(codec, "sha256:" + "00" * 32, clip) for clip in clips]
    factors = [codec.quantizer.factors(codec.encode(clip[None]))[0].numpy() for clip in clips]
    values = of_test_set(codec.quantizer, factors, codec.frame_rate)
    frames = sum(map(len, factors))
    written = sum(len(one.payload) for one in coded)
    assert abs(values["rate/coded"] * frames / codec.frame_rate / 8 - written) <= 2 * len(clips)
    every, lengths = np.concatenate(factors), [*map(len, factors)]
    sizes = codec.quantizer.factor_sizes
    best = min(payload.shortest(every, sizes, lengths).values(), key=lambda length: length.bits)
    stream = payload.write(every, sizes, best.settings, lengths)
    assert abs(values["rate/coded_stream"] * frames / codec.frame_rate / 8 - len(stream)) <= 2


def test_tokens_of_streams_with_strides_are_coded_once() -> None:
    """Three streams at 1, 1/2 and 1/4 tokens per frame of 16 even codes each: 7 bits per frame, and a whole
    token where the last block is cut."""
    random = np.random.default_rng(0)
    utterances = []
    for frames in (400, 401, 6):
        columns = [np.repeat(random.integers(0, 16, 101 * 4 // s), s)[:frames] for s in (4, 2, 1)]
        utterances.append(np.stack(columns, axis=1))
    quantizer = quantizer_of(16, 16, 16)
    quantizer.factor_strides = (4, 2, 1)
    values = of_test_set(quantizer, utterances, FRAME_RATE)
    tokens = (100 + 200 + 400) + (101 + 201 + 401) + (2 + 3 + 6)
    exact = 4 * tokens / 807 * FRAME_RATE
    assert values["rate/coded_adaptive"] == pytest.approx(exact, rel=1e-9)
    assert values["rate/coded"] == pytest.approx(exact, rel=1e-3)  # no model gains on even codes
    quantizer.factor_strides = (1, 1, 1)
    assert of_test_set(quantizer, utterances, FRAME_RATE)["rate/coded"] > 1.1 * exact
