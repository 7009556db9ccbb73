"""Resampling: equal to torchaudio's where that is small, equal to the formula where it would not fit."""

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from codec import resampling
from codec.references import contract
from codec.resampling import (
    KERNEL_LIMIT,
    Design,
    StreamResampler,
    blockwise,
    kernel_size,
    resample,
    transform,
)
from experiments.data.signal import KAISER
from experiments.metrics import signals

ORDINARY = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
COPRIME = [
    (16_001, 16_000),
    (23_993, 16_000),
    (22_254, 16_000),
    (11_127, 16_000),
    (44_101, 44_100),
    (4_001, 48_000),
]


def noise(samples: int) -> np.ndarray:
    return 0.2 * np.random.default_rng(samples).standard_normal(samples)


def by_the_formula(signal: np.ndarray, source: int, target: int, design: Design, places: list[int]):
    """Sums of `signal` under the windowed sinc at the output samples `places`, written out."""
    cutoff = min(source, target) * design.rolloff
    beta = float(np.float32(design.beta))
    inputs = np.arange(len(signal))
    for place in places:
        time = (inputs / source - place / target) * cutoff
        inside = np.clip(1 - (time / design.lowpass_filter_width) ** 2, 0, None)
        window = np.i0(beta * np.sqrt(inside)) / np.i0(beta) * (abs(time) <= design.lowpass_filter_width)
        yield float((signal * np.sinc(time) * window).sum() * cutoff / source)


@pytest.mark.parametrize("design", [KAISER, signals.DESIGN, contract.DESIGN])
def test_ordinary_rates_keep_torchaudios_kernel(design: Design) -> None:
    """Their results decide content hashes and scores: not one bit of them may change."""
    sizes = {pair: kernel_size(*pair, design) for pair in itertools.permutations(ORDINARY, 2)}
    assert max(sizes.values()) < KERNEL_LIMIT
    source, target = max(sizes, key=lambda pair: sizes[pair])
    assert transform(source, target, design, double=False).kernel.numel() == sizes[source, target]


@pytest.mark.parametrize(("source", "target"), [(44_100, 16_000), (16_000, 44_100), (24_000, 16_000)])
@pytest.mark.parametrize("samples", [1, 7, 5_000])
def test_blocks_are_torchaudios_sinc(source: int, target: int, samples: int) -> None:
    signal = noise(samples)
    expected = transform(source, target, KAISER, double=True)(torch.from_numpy(signal)).numpy()
    np.testing.assert_allclose(blockwise(signal, source, target, KAISER), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("source", "target"), COPRIME)
def test_rates_without_a_common_divisor_follow_the_formula(source: int, target: int) -> None:
    """To a thousandth of a step of 16 bits; what is left is the window's norm, which torchaudio rounds."""
    assert kernel_size(source, target, KAISER) > KERNEL_LIMIT
    signal = noise(source // 4)
    made = resample(signal, source, target, KAISER)
    assert len(made) == -(-len(signal) * target // source)
    places = [0, 1, len(made) // 3, len(made) // 2, len(made) - 1]
    expected = list(by_the_formula(signal, source, target, KAISER, places))
    np.testing.assert_allclose(made[places], expected, rtol=0, atol=2**-15 / 1000)


def test_a_tone_at_an_odd_rate_stays_what_it_is() -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(16_001) / 16_001).astype(np.float32)
    expected = np.sin(2 * np.pi * 997 * np.arange(16_000) / 16_000)
    for made in (signals.resample(tone, 16_001, 16_000), contract.resample(tone, 16_001, 16_000)):
        assert made.dtype == np.float32
        assert np.abs(made - expected)[500:-500].max() < 1e-3


def test_every_pair_of_rates_that_is_taken_needs_little_memory() -> None:
    """The worst of them, two seconds long, in a process that may take 600 MB beyond its libraries."""
    code = textwrap.dedent("""
        import resource, numpy as np
        import torch, torchaudio, scipy.special
        from codec.resampling import Design, resample
        from experiments.metrics import signals
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 600 * 2**20,) * 2)
        for source, target in ((16_001, 16_000), (191_999, 4_001), (4_001, 191_999)):
            made = resample(np.ones(2 * source), source, target, Design(64, 0.95))
            assert abs(made[len(made) // 2] - 1) < 1e-4, made
        assert len(signals.resample(np.ones(23_993, np.float32), 23_993, 16_000)) == 16_000
    """)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_rates_that_no_recording_has_have_a_reason() -> None:
    assert resampling.rate_problem(1) == "sample rate 1 Hz is outside 4000 to 192000 Hz"
    assert "655347 Hz" in resampling.rate_problem(655_347)
    assert not any(resampling.rate_problem(rate) for rate in (4_000, 16_001, 192_000))
    with pytest.raises(signals.MetricFailure, match="sample rate 1 Hz"):
        signals.prepare_pair(np.ones(10, np.float32), np.ones(10, np.float32), 1)


@pytest.mark.parametrize(
    ("source", "target"), [(44_100, 16_000), (8_000, 16_000), (16_000, 16_000), (16_001, 16_000)]
)
@pytest.mark.parametrize("part", [997, 30_000])
def test_a_stream_is_resampled_as_the_whole(source: int, target: int, part: int) -> None:
    signal = np.random.default_rng(0).standard_normal(3 * source + 77)
    stream = StreamResampler(source, target, KAISER)
    parts = [stream.feed(signal[first : first + part]) for first in range(0, len(signal), part)]
    assert max(map(len, parts)) < 2.5 * target + part * target / source
    made = np.concatenate([*parts, stream.finish()])
    whole = resample(signal, source, target, KAISER)
    assert len(made) == len(whole)
    assert np.abs(made - whole).max() < 1e-13
    assert np.array_equal(made.astype(np.float32), whole.astype(np.float32))
