"""Every metric on audio that no codec should produce: a value or a reason, never an exception or a NaN."""

import math

import numpy as np
import pytest

from experiments import metrics
from experiments.metrics import MetricFailure, golden
from experiments.metrics.families.pesq import most_utterances
from experiments.metrics.signals import Signal

RATE = 16000
GOOD = golden.utterance(2.5, RATE)  # doubled twice, one window of DNSMOS
CHEAP = [
    name
    for name in metrics.available()
    if not metrics.get(name).install
    and metrics.get(name).weights is None
    and not name.startswith(("dnsmos", "plcmos"))
]

HOSTILE = {
    "silent": np.zeros_like(GOOD),
    "constant": np.full_like(GOOD, 0.5),
    "clipped": np.clip(50 * GOOD, -1, 1),
    "far over full scale": 1000 * GOOD,
    "barely there": 1e-4 * GOOD,
    "inverted": -GOOD,
    "one click": np.eye(1, len(GOOD), 5000, dtype=np.float32)[0],
    "noise": 0.1 * golden.noise(len(GOOD), 9).astype(np.float32),
    "denormal": np.full_like(GOOD, 1e-40),
    "with offset": GOOD + 0.4,
}


def outcome(name, reference, reconstruction, rate=RATE):
    """Value or reason, once it is sure to be one of the two."""
    try:
        value = metrics.get(name).compute(reference, reconstruction, rate)
    except MetricFailure as failure:
        reason = str(failure)
        assert reason
        assert "\n" not in reason
        return reason
    assert math.isfinite(value)
    return value


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", CHEAP)
def test_hostile_reconstruction(name, kind):
    result = outcome(name, GOOD, HOSTILE[kind])
    assert not (isinstance(result, str) and result.startswith("backend error")), result


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", CHEAP)
def test_hostile_reference(name, kind):
    result = outcome(name, HOSTILE[kind], GOOD)
    assert not (isinstance(result, str) and result.startswith("backend error")), result


@pytest.mark.parametrize("samples", [1, 2, 100, 1600, 4000, 6000])
@pytest.mark.parametrize("name", CHEAP)
def test_short_clips(name, samples):
    clip = GOOD[8000 : 8000 + samples]
    result = outcome(name, clip, 0.9 * clip)
    assert not (isinstance(result, str) and result.startswith("backend error")), result


@pytest.mark.parametrize("name", ["pesq", "pesq_nb", "stoi", "estoi"])
@pytest.mark.parametrize(("reference", "reconstruction"), [("silent", "good"), ("good", "silent")])
def test_silence_is_named(name, reference, reconstruction):
    clips = {"silent": HOSTILE["silent"], "good": GOOD}
    side = "reference" if reference == "silent" else "reconstruction"
    assert outcome(name, clips[reference], clips[reconstruction]) == f"silent {side}"


def test_too_short_for_pesq_and_stoi():
    clip = GOOD[4000 : 4000 + RATE // 10]
    assert outcome("pesq", clip, clip) == "too short: 0.10 s, needs 0.25 s"
    assert outcome("stoi", clip, clip) == "too short: 0.10 s, needs 0.4 s"


def test_too_little_speech_for_stoi_is_a_reason_and_not_1e_5():
    clip = np.zeros(2 * RATE, dtype=np.float32)
    clip[8000:10000] = GOOD[8000:10000]
    assert str(outcome("stoi", clip, 0.5 * clip)).startswith("too little speech")


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 96000])
def test_any_sample_rate(rate):
    clip = golden.utterance(1.5, rate)
    for name in CHEAP:
        assert isinstance(outcome(name, clip, clip, rate), float), name


def test_identical_clips_reach_the_ceiling():
    assert outcome("pesq", GOOD, GOOD) == pytest.approx(4.6439, abs=1e-3)
    assert outcome("stoi", GOOD, GOOD) == pytest.approx(1)
    assert outcome("vuv_f1", GOOD, GOOD) == 1
    assert outcome("mel_distance", GOOD, GOOD) == 0
    assert outcome("si_sdr", GOOD, GOOD) == 100


def test_si_sdr_compensates_delay_and_does_not_mind_gain():
    delayed = np.roll(GOOD, 37)
    assert outcome("si_sdr", GOOD, -0.3 * delayed) > 60
    assert outcome("delay", GOOD, delayed) == pytest.approx(1000 * 37 / RATE)
    assert outcome("delay", delayed, GOOD) == pytest.approx(-1000 * 37 / RATE)


def test_si_sdr_of_known_noise():
    reference = golden.noise(RATE, 1).astype(np.float32)
    noise = golden.noise(RATE, 2).astype(np.float32)
    assert outcome("si_sdr", reference, reference + 0.1 * noise) == pytest.approx(20, abs=0.2)


@pytest.mark.parametrize(("seconds", "period"), [(30, 0.5), (60, 1.0)])
def test_clip_with_more_utterances_than_pesq_holds_is_refused(seconds, period):
    # The backend writes past its arrays and takes the process down.
    time = np.arange(seconds * RATE) / RATE
    bursts = (0.1 * golden.noise(len(time), 1) * (time % period < period / 2)).astype(np.float32)
    assert str(outcome("pesq", bursts, bursts)).startswith("too long: up to 60 stretches of speech")


def test_bound_counts_bursts():
    time = np.arange(40 * RATE) / RATE
    bursts = (0.1 * golden.noise(len(time), 1) * (time % 2 < 1)).astype(np.float32)
    assert most_utterances(Signal(bursts, RATE), RATE) == 20


@pytest.mark.slow
def test_dnsmos_hostile():
    for kind, clip in HOSTILE.items():
        result = outcome("dnsmos_ovrl", GOOD, clip)
        assert (kind in ("silent", "constant", "denormal")) == isinstance(result, str), (kind, result)
    assert outcome("dnsmos_ovrl", GOOD[:1600], GOOD[:1600]) == "too short: 0.10 s, needs 0.5 s"
