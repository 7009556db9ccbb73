"""All metrics of one utterance: what a worker process runs. Nothing here raises for bad audio."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.common.atomic_files import replacing
from experiments.metrics.failures import MetricFailure
from experiments.metrics.registry import get
from experiments.metrics.signals import Signal, content_key, prepare_pair

OK = "ok"


@dataclass(frozen=True)
class Task:
    """One utterance to score: both clips ``[samples]`` and the names of the metrics."""

    utterance: str
    reference: np.ndarray
    reconstruction: np.ndarray
    sample_rate: int
    metric_names: tuple[str, ...]
    reference_cache: Path | None = None


@dataclass(frozen=True)
class Score:
    """A metric's value for an utterance; NaN unless ``status`` is ``ok``, otherwise it is the reason."""

    utterance: str
    metric: str
    value: float
    status: str


def failures(utterance: str, metric_names: Sequence[str], reason: str) -> list[Score]:
    """The same reason for each metric."""
    return [Score(utterance, name, math.nan, reason) for name in metric_names]


def score_utterance(task: Task) -> list[Score]:
    """One ``Score`` for each metric, in their order."""
    try:
        reference, reconstruction = prepare_pair(task.reference, task.reconstruction, task.sample_rate)
    except MetricFailure as failure:
        return failures(task.utterance, task.metric_names, str(failure))
    with _cached(reference, task.reference_cache):
        return [_score(task.utterance, name, reference, reconstruction) for name in task.metric_names]


def _score(utterance: str, name: str, reference: Signal, reconstruction: Signal) -> Score:
    try:
        return Score(utterance, name, get(name).evaluate(reference, reconstruction), OK)
    except MetricFailure as failure:
        return Score(utterance, name, math.nan, str(failure))


@contextlib.contextmanager
def _cached(reference: Signal, folder: Path | None) -> Iterator[None]:
    """Fill the reference's kept arrays from ``folder``, and write back what was added."""
    if folder is None:
        yield
        return
    path = folder / f"{content_key(reference.samples, reference.sample_rate)}.npz"
    # A file cut short by a kill is computed again and replaced.
    unreadable = (FileNotFoundError, zipfile.BadZipFile, ValueError, EOFError)
    with contextlib.suppress(*unreadable), np.load(path, allow_pickle=False) as arrays:
        reference.stored.update(arrays)
    known = len(reference.stored)
    yield
    if len(reference.stored) > known:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **reference.stored)
