import numpy as np
import pytest

from experiments import metrics
from experiments.metrics import golden

CHEAP = [name for name in metrics.available() if not name.startswith("dnsmos")]


def assert_all_ok(names):
    checks = list(golden.check(names))
    assert checks
    wrong = [check for check in checks if not (check.ok or check.skipped)]
    assert not wrong, wrong


@pytest.mark.parametrize("name", [name for name in CHEAP if not metrics.get(name).missing()])
def test_golden_values(name):
    assert_all_ok([name])


@pytest.mark.slow
def test_golden_values_of_dnsmos():
    assert_all_ok([name for name in metrics.available() if name.startswith("dnsmos")])


def test_a_wrong_value_is_seen(monkeypatch):
    monkeypatch.setattr(golden, "GOLDENS", (golden.Golden("pesq", "randn at 16k", 1.80, 5e-5),))
    (check,) = golden.check(["pesq"])
    assert not check.ok
    assert check.obtained == pytest.approx(1.7359, abs=1e-4)


def test_every_deterministic_metric_has_a_golden_value():
    covered = {golden_value.metric for golden_value in golden.GOLDENS}
    without = {name for name in metrics.available() if metrics.get(name).deterministic} - covered
    assert not {name for name in without if not metrics.get(name).install}


def test_signals_are_the_same_everywhere():
    assert golden.noise(3, 1) == pytest.approx([0.49155902, -0.45284307, 0.81248490], abs=1e-8)
    clip = golden.utterance()
    assert clip.shape == (5 * golden.RATE,)
    assert float(np.sqrt(np.mean(np.square(clip, dtype=np.float64)))) == pytest.approx(0.07697, abs=1e-5)
