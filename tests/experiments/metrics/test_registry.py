import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from experiments import metrics
from experiments.metrics import MetricFailure, MetricUnavailable, golden


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


def test_facts_name_unit_and_direction_and_import_no_backend():
    facts = metrics.facts()
    assert list(facts) == list(metrics.available())
    assert facts["pesq"] == ("MOS-LQO", True)
    assert facts["mel_distance"] == ("Np", False)
    assert facts["wer"] == ("", False)
    assert facts["delay"] == ("ms", None)  # early is no better than late
    code = (
        "import sys; from experiments import metrics; metrics.facts(); "
        "heavy = 'torch', 'torchaudio', 'pandas', 'scipy', 'onnxruntime', 'pesq', 'pystoi', 'librosa'; "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", metrics.available())
def test_directions_are_those_of_the_values(name):
    """A coarser copy scores worse, by every metric that this machine can compute and that says which way."""
    metric = metrics.get(name)
    expected = {golden_.pair: golden_.expected for golden_ in golden.GOLDENS if golden_.metric == name}
    if metric.higher_is_better is None or not {"identical", "coarse"} <= expected.keys():
        pytest.skip("no direction, or no pair to tell it by")
    assert (expected["identical"] > expected["coarse"]) == metric.higher_is_better
