import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from experiments import metrics
from experiments.metrics import MetricFailure, MetricUnavailable


def test_core_metrics_are_there_and_run_without_extras():
    assert metrics.core() == (
        "pesq",
        "stoi",
        "estoi",
        "mel_distance",
        "si_sdr",
        "vuv_f1",
        "dnsmos_ovrl",
        "dnsmos_sig",
        "dnsmos_bak",
        "dnsmos_p808",
    )
    assert not [name for name in metrics.core() if metrics.get(name).missing()]


@pytest.mark.parametrize("name", metrics.available())
def test_every_metric_says_what_it_is(name):
    metric = metrics.get(name)
    assert metric.name == name
    assert metric.summary
    assert metric.cost
    assert metric.licence
    assert metric.backend in metric.label
    # What is not installed with codecbench must say how to get it.
    assert metric.install or not metric.missing()


def test_version_names_the_backend():
    assert metrics.get("pesq").version().startswith("pesq 0.")
    assert metrics.get("mel_distance").version() == "codecbench v1"


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(MetricUnavailable, match="did you mean 'pesq'"):
        metrics.get("peqs")


def test_missing_package_names_the_install():
    metric = replace(metrics.get("pesq"), modules=("no_such_module",), install="codecbench[more]")
    with pytest.raises(MetricUnavailable, match=r"no_such_module.*: pip install codecbench\[more\]$"):
        metric.compute(np.zeros(16000), np.zeros(16000), 16000)


def test_any_exception_of_a_backend_is_a_failure_with_its_first_line():
    def broken(reference, reconstruction):
        raise KeyError("first\nsecond")

    metric = replace(metrics.get("pesq"), measure=broken)
    with pytest.raises(MetricFailure, match=r"^backend error: KeyError: .*first"):
        metric.compute(np.ones(16000), np.ones(16000), 16000)


def test_value_that_is_not_finite_is_a_failure():
    metric = replace(metrics.get("pesq"), measure=lambda reference, reconstruction: float("nan"))
    with pytest.raises(MetricFailure, match="returned nan"):
        metric.compute(np.ones(16000), np.ones(16000), 16000)


def test_looking_up_metrics_imports_no_backend():
    code = (
        "import sys; from experiments import metrics; [metrics.get(n) for n in metrics.available()]; "
        "heavy = 'torch', 'pandas', 'scipy', 'onnxruntime', 'pystoi', 'librosa'; "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
