import numpy as np
import pytest
from speechmos import dnsmos

from experiments import metrics
from experiments.metrics import golden
from experiments.metrics.families.dnsmos import windows

RATE = 16000


@pytest.mark.parametrize(
    ("seconds", "count"),
    [(0.5, 7), (4, 7), (4.6, 1), (5, 1), (8, 7), (9.01, 1), (9.5, 1), (12, 3), (20.5, 7), (40, 20)],
)
def test_windows_are_those_of_the_package(seconds, count):
    clip = np.arange(int(seconds * RATE), dtype=np.float32)
    cut = list(windows(clip))
    seen = []

    class Counting(dnsmos.DNSMOS):
        def __init__(self):
            self.onnx_sess = self.p808_onnx_sess = self

        def run(self, _, inputs):
            window = inputs["input_1"]
            if window.ndim == 2:
                seen.append(window[0])
            return [np.ones((1, 3))]

        def audio_melspec(self, audio):
            return np.zeros((900, 120))

    Counting()(clip / len(clip), RATE, False)
    assert len(cut) == len(seen)
    for ours, theirs in zip(cut, seen, strict=True):
        assert np.allclose(ours / np.float32(len(clip)), theirs, atol=1e-6)


@pytest.mark.long
def test_equals_the_package():
    clip, noisy, rate = golden.utterance(6.0, RATE), golden.noise(6 * RATE, 7).astype(np.float32), RATE
    decoded = clip + 0.01 * noisy
    expected = dnsmos.run(decoded, rate)
    for part in ("ovrl", "sig", "bak", "p808"):
        value = metrics.get(f"dnsmos_{part}").compute(clip, decoded, rate)
        assert value == pytest.approx(expected[f"{part}_mos"], abs=1e-4)
