"""The examples in docstrings run as they stand."""

import doctest
import importlib

import pytest

MODULES = (
    "quantizers.registry",
    "experiments.studies.study",
    "experiments.metrics.registry",
    "codec.model",
    "experiments.tracking.models.trained_codecs",
    "analysis.statistics.intervals",
    "analysis.statistics.bjontegaard",
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=FLAGS, report=True)
    assert result.attempted > 0
    assert result.failed == 0
