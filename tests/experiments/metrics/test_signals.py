import numpy as np
import pytest

from experiments.metrics import MetricFailure, Signal
from experiments.metrics.signals import content_key, prepare_pair, resample


def test_longer_reconstruction_is_trimmed():
    reference, reconstruction = prepare_pair(np.ones(1000), np.ones(1080), 16000)
    assert len(reference.samples) == len(reconstruction.samples) == 1000


def test_both_are_cut_to_a_slightly_shorter_reconstruction():
    reference, reconstruction = prepare_pair(np.ones(1000), np.ones(950), 16000)
    assert len(reference.samples) == len(reconstruction.samples) == 950


@pytest.mark.parametrize("length", [0, 880, 1120])
def test_lengths_far_apart_are_refused(length):
    with pytest.raises(MetricFailure, match=r"lengths differ|empty reconstruction"):
        prepare_pair(np.ones(1000), np.ones(length), 16000)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0), "empty reference"),
        (np.array([0.0, np.nan, np.inf] * 100), "reference is not finite: 200 of 300 samples"),
        (np.zeros((2, 100)), r"reference is not mono: shape \(2, 100\)"),
        (np.zeros(100, dtype=np.int16), "reference is not floating point: int16"),
    ],
)
def test_what_no_metric_can_score(samples, reason):
    with pytest.raises(MetricFailure, match=reason):
        prepare_pair(samples, samples, 16000)


def test_an_hour_is_refused_before_any_work():
    hour = np.zeros(3600 * 8000, dtype=np.float32)
    with pytest.raises(MetricFailure, match="too long: 3600 s"):
        prepare_pair(hour, hour, 8000)


@pytest.mark.parametrize("source", [8000, 22050, 24000, 44100, 96000])
def test_resampling_keeps_a_tone(source):
    time = np.arange(source) / source
    tone = np.sin(2 * np.pi * 997 * time).astype(np.float32)
    obtained = resample(tone, source, 16000)
    expected = np.sin(2 * np.pi * 997 * np.arange(16000) / 16000)
    assert len(obtained) == 16000
    assert np.abs(obtained - expected)[500:-500].max() < 1e-3


def test_resampling_removes_what_would_alias():
    tone = np.sin(2 * np.pi * 9000 * np.arange(24000) / 24000).astype(np.float32)
    assert np.abs(resample(tone, 24000, 16000))[500:-500].max() < 1e-3


def test_resampling_takes_read_only_samples():
    samples = np.zeros(2400, dtype=np.float32)
    samples.flags.writeable = False
    assert len(resample(samples, 24000, 16000)) == 1600


def test_derived_arrays_are_computed_once_and_kept_ones_are_stored():
    calls = []

    def make():
        calls.append(1)
        return np.arange(3)

    stored = {}
    signal = Signal(np.ones(10, np.float32), 16000, stored=stored)
    for _ in range(2):
        signal.derive("temporary", make)
        signal.derive("kept", make, keep=True)
    assert len(calls) == 2
    assert list(stored) == ["kept"]
    again = Signal(np.ones(10, np.float32), 16000, stored=stored)
    again.derive("kept", make, keep=True)
    assert len(calls) == 2


def test_content_key_depends_on_samples_and_rate():
    samples = np.arange(100, dtype=np.float32)
    keys = {content_key(samples, 16000), content_key(samples, 24000), content_key(samples + 1, 16000)}
    assert len(keys) == 3
    assert content_key(samples.copy(), 16000) in keys
