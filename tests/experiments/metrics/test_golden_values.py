import numpy as np
import pytest

from experiments import metrics
from experiments.metrics import golden

SLOW = ("dnsmos", "distillmos", "visqol", "wer", "cer")
CHEAP = [n for n in metrics.available() if not n.startswith(SLOW) and not n.endswith("torchcrepe")]


def assert_all_ok(names):
    checks = list(golden.check(names))
    assert checks
    wrong = [check for check in checks if not (check.ok or check.skipped)]
    assert not wrong, wrong


def with_golden(names):
    return [name for name in names if any(value.metric == name for value in golden.GOLDENS)]


@pytest.mark.parametrize("name", with_golden(CHEAP))
def test_golden_values(name):
    assert_all_ok([name])


@pytest.mark.slow
def test_golden_values_of_the_slow():
    assert_all_ok(with_golden(set(metrics.available()) - set(CHEAP)))


def test_a_wrong_value_is_seen(monkeypatch):
    monkeypatch.setattr(golden, "GOLDENS", (golden.Golden("pesq", "randn at 16k", 1.80, 5e-5),))
    (check,) = golden.check(["pesq"])
    assert not check.ok
    assert check.obtained == pytest.approx(1.7359, abs=1e-4)


def test_every_deterministic_metric_has_a_golden_value():
    covered = {golden_value.metric for golden_value in golden.GOLDENS}
    assert set(metrics.available()) - covered == {"plcmos", "utmos"}


def test_signals_are_the_same_everywhere():
    assert golden.noise(3, 1) == pytest.approx([0.49155902, -0.45284307, 0.81248490], abs=1e-8)
    clip = golden.utterance()
    assert clip.shape == (5 * golden.RATE,)
    assert float(np.sqrt(np.mean(np.square(clip, dtype=np.float64)))) == pytest.approx(0.07697, abs=1e-5)
