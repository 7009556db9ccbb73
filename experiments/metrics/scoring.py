"""All metrics of one utterance: what a worker process runs. Nothing here raises for bad audio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.common.atomic_files import replacing
from experiments.metrics.failures import MetricFailure
from experiments.metrics.registry import get
from experiments.metrics.signals import Signal, content_key, prepare_pair

OK = "ok"


@dataclass(frozen=True)
class Task:
    """One utterance to score: both clips `[samples]` and the names of the metrics."""

    utterance: str
    reference: np.ndarray
    reconstruction: np.ndarray
    sample_rate: int
    metric_names: tuple[str, ...]
    reference_cache: Path | None = None


@dataclass(frozen=True)
class Score:
    """A metric's value for an utterance; NaN unless `status` is `ok`, otherwise it is the reason.

    warning: what went wrong beside the value, which is right all the same.
    """

    utterance: str
    metric: str
    value: float
    status: str
    warning: str = ""


def failures(utterance: str, metric_names: Sequence[str], reason: str) -> list[Score]:
    """Scores that fail for one reason, one for each metric."""
    return [Score(utterance, name, math.nan, reason) for name in metric_names]


def score_utterance(task: Task) -> list[Score]:
    """One `Score` for each metric, in their order. A reference cache that fails is a warning."""
    try:
        reference, reconstruction = prepare_pair(task.reference, task.reconstruction, task.sample_rate)
    except MetricFailure as failure:
        return failures(task.utterance, task.metric_names, str(failure))
    path = _cache_file(reference, task.reference_cache)
    warning = _fill(reference, path)
    known = len(reference.stored)
    scores = [_score(task.utterance, name, reference, reconstruction) for name in task.metric_names]
    if len(reference.stored) > known and not warning:
        warning = _keep(reference, path)
    return [replace(scores[0], warning=warning), *scores[1:]] if warning else scores


def _score(utterance: str, name: str, reference: Signal, reconstruction: Signal) -> Score:
    try:
        return Score(utterance, name, get(name).evaluate(reference, reconstruction), OK)
    except MetricFailure as failure:
        return Score(utterance, name, math.nan, str(failure))


def _cache_file(reference: Signal, folder: Path | None) -> Path | None:
    return folder and folder / f"{content_key(reference.samples, reference.sample_rate)}.npz"


def _fill(reference: Signal, path: Path | None) -> str:
    """Take the reference's kept arrays from `path`; what is wrong with the cache, if anything is."""
    if path is None:
        return ""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            reference.stored.update(arrays)
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"{path.parent}: {error.strerror or error}"
    except Exception:  # cut short by a kill, or damaged: computed again and replaced
        reference.stored.clear()
    return ""


def _keep(reference: Signal, path: Path | None) -> str:
    """Write the reference's kept arrays to `path`; what is wrong with the cache, if anything is."""
    if path is None:
        return ""
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **reference.stored)
    except OSError as error:
        return f"{path.parent}: {error.strerror or error}"
    return ""
