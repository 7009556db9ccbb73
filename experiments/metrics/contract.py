"""Contract of a metric, and the two ways in which it can refuse."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.metrics.failures import PROTOCOL, MetricFailure, MetricUnavailable
from experiments.metrics.signals import prepare_pair

if TYPE_CHECKING:
    import numpy as np

    from experiments.metrics.signals import Signal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: how it is called, what it means, and the function that measures it.

    `measure` takes (reference, reconstruction) as `Signal`s of equal length and returns the value or
    raises `MetricFailure`. What several metrics of a family share (a pitch track, one inference) they
    keep in the signals with `Signal.derive`, so it is computed once a clip.
    """

    name: str
    unit: str
    """Empty for a ratio or a correlation."""
    higher_is_better: bool | None
    """None: the value is a diagnosis, and says neither."""
    sample_rate: int | None
    """Rate in Hz at which the backend listens; None: the clip's own."""
    backend: str
    """Name of the package or method behind it; shown beside the metric in every table."""
    measure: Callable[[Signal, Signal], float]
    summary: str
    """One line: what it is good for."""
    distributions: tuple[str, ...] = ()
    """Installed distributions whose versions decide the value; without any, the protocol's version does."""
    modules: tuple[str, ...] = ()
    """Modules that it imports when it runs; one that is missing makes it unavailable."""
    install: str = ""
    """Arguments of `pip install` that make it available; empty for what codecbench depends on."""
    weights: Callable[[], Path] | None = None
    """Finds weights that are the user's to bring; raises `MetricUnavailable` with the remedy."""
    licence: str = ""
    cost: str = ""
    """CPU seconds per second of audio on one thread, measured."""
    core: bool = False
    """In the default set of an evaluation."""
    deterministic: bool = True
    uses_reference: bool = True

    @property
    def label(self) -> str:
        """Name with backend, for table headings."""
        return f"{self.name} ({self.backend})"

    def version(self) -> str:
        """Backend and version(s), such as `pesq 0.0.4`; two values compare only if these are equal."""
        if not self.distributions:
            return f"{self.backend} {PROTOCOL}"
        versions = [f"{name} {_installed_version(name)}" for name in self.distributions]
        if self.weights is not None:
            try:
                versions.append(self.weights().name)
            except MetricUnavailable:
                versions.append("weights not found")
        return ", ".join(versions)

    def missing(self) -> tuple[str, ...]:
        """Modules that the metric needs and that are not installed."""
        return tuple(name for name in self.modules if not _importable(name))

    def require(self) -> None:
        """Raise `MetricUnavailable` with the remedy where a package or its weights are missing."""
        if missing := self.missing():
            raise MetricUnavailable(
                f"metric {self.name!r} needs {', '.join(missing)}, which is not installed: "
                f"pip install {self.install or ' '.join(self.distributions)}"
            )
        if self.weights is not None:
            self.weights()

    def compute(self, reference: np.ndarray, reconstruction: np.ndarray, sample_rate: int) -> float:
        """Value for one pair of mono clips `[samples]` at `sample_rate` Hz, full scale at 1.

        Raises `MetricFailure` with the reason where there is no value.
        """
        self.require()
        return self.evaluate(*prepare_pair(reference, reconstruction, sample_rate))

    def evaluate(self, reference: Signal, reconstruction: Signal) -> float:
        """`measure`, with whatever goes wrong in the backend turned into a `MetricFailure`."""
        try:
            value = float(self.measure(reference, reconstruction))
        except MetricFailure:
            raise
        except MemoryError as error:
            raise MetricFailure("backend error: out of memory") from error
        except Exception as error:
            raise MetricFailure(f"backend error: {type(error).__name__}: {_first_line(error)}") from error
        if not math.isfinite(value):
            raise MetricFailure(f"backend error: returned {value}")
        return value


def _first_line(error: Exception, limit: int = 120) -> str:
    text = str(error).strip().splitlines()
    return text[0][:limit] if text else "no message"


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _installed_version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
