import numpy as np
import pystoi
import pytest

from experiments import metrics
from experiments.metrics import golden

RATE = 10000
CLIP = golden.utterance(3.0, RATE)


def degraded(kind):
    noise = golden.noise(len(CLIP), 4).astype(np.float32)
    return {
        "clean": CLIP,
        "noisy": CLIP + 0.05 * noise,
        "noise alone": noise,
        "gated": CLIP * (np.arange(len(CLIP)) % 2000 < 1000),
        "inverted and louder": -3 * CLIP,
    }[kind].astype(np.float32)


@pytest.mark.parametrize("kind", ["clean", "noisy", "noise alone", "gated", "inverted and louder"])
@pytest.mark.parametrize(("name", "extended"), [("stoi", False), ("estoi", True)])
def test_equals_the_package(name, extended, kind):
    expected = pystoi.stoi(CLIP, degraded(kind), RATE, extended=extended)
    # The package's ESTOI adds noise of the size of rounding, which decides where an envelope is zero.
    tolerance = 1e-3 if kind == "gated" and extended else 1e-9
    assert metrics.get(name).compute(CLIP, degraded(kind), RATE) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", ["stoi", "estoi"])
def test_same_bits_every_time(name):
    metric = metrics.get(name)
    assert metric.compute(CLIP, degraded("noisy"), RATE) == metric.compute(CLIP, degraded("noisy"), RATE)
