"""Find runs in a tracking store: those of a study, or one by its id or by the beginning of its hash."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import load
from analysis.results.study_results import Results, records
from experiments.common.run_folder import STATE, is_trained
from experiments.tracking.errors import shown
from experiments.tracking.reader import reader
from experiments.tracking.schema import FINISHED, KIND_RUN, KIND_STUDY, KIND_WARM_START, Tag, newest, rows_of
from experiments.tracking.stored import Reader, StoredRun

NOT_STARTED = "not started"
SHORTEST = 4  # characters of an id or a hash
_TIMES = ("cost/train_seconds", "cost/evaluate_seconds")


class RunError(ValueError):
    """No run, or more than one, is meant; the message says what to give."""


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run of a study. seconds: of training and evaluation, None where it was not timed. where: its weights
    or its state."""

    run_id: str
    label: str
    seed: int | None
    status: str
    reason: str
    seconds: float | None
    run_hash: str
    training_hash: str
    where: str


def of_study(study: str, uri: str, runs_folder: Path) -> list[ListedRun]:
    """Runs of a study in the order of its table, references and what was not started last.

    Raises ResultsError, TrackingError.
    """
    results = load(study, uri)
    store = reader(uri)
    stored = {run.info.run_id: run for run in _runs(store)}
    frames = [frame for frame in (results.runs, results.references) if len(frame)]
    listed = [
        _listed(run, stored.get(str(run["run_id"])), runs_folder)
        for frame in frames
        for run in records(frame)
    ]
    known = {run.run_hash for run in listed}
    missing = {key: label for key, label in _wanted(results, store).items() if key not in known}
    return listed + [_not_started(key, label) for key, label in missing.items()]


def the_run(given: str, uri: str) -> tuple[StoredRun, str]:
    """The run that an MLflow id, a run's hash or a training's hash names, in full or by its beginning, and
    the name of its study. Raises RunError, TrackingError."""
    store = reader(uri)
    if len(given) < SHORTEST:
        raise RunError(f"{given!r} is too short; give at least {SHORTEST} characters of an id or a hash")
    names = (Tag.RUN_HASH, Tag.TRAINING_HASH)
    fitting = [
        run
        for run in _runs(store, (KIND_RUN, KIND_WARM_START, KIND_STUDY))
        if any(text.startswith(given) for text in (run.info.run_id, *map(run.data.tags.get, names)) if text)
    ]
    exact = [run for run in fitting if run.info.run_id == given]
    chosen = exact or [*newest(fitting, put_aside_too=True).values()]
    studies = {one.experiment_id: one.name for one in store.experiments()}
    if not chosen:
        raise RunError(f"no run {given!r} in {shown(uri)}; `codecbench runs STUDY` lists the runs of a study")
    if len(chosen) > 1:
        several = "; ".join(f"{run.info.run_id} ({label_of(run)})" for run in chosen[:10])
        raise RunError(f"{given!r} is the beginning of {len(chosen)} runs; give more of it: {several}")
    return chosen[0], studies.get(chosen[0].info.experiment_id, "")


def label_of(run: StoredRun) -> str:
    """Row and seed of a run, or its name."""
    label, seed = run.data.tags.get(Tag.LABEL), run.data.tags.get(Tag.SEED)
    return f"{label or run.info.run_name}" + (f", seed {seed}" if seed else "")


def place_of(training_hash: str, runs_folder: Path) -> str:
    """The folder of a training, if it holds its weights, or the state that it goes on from."""
    folder = runs_folder / training_hash
    if not training_hash:
        return ""
    if is_trained(folder):
        return str(folder)
    return f"{folder} (state)" if (folder / STATE).exists() else ""


def _runs(store: Reader, kinds: Sequence[str] = (KIND_RUN,)) -> list[StoredRun]:
    return store.runs([one.experiment_id for one in store.experiments()], {"kind": kinds})


def _wanted(results: Results, store: Reader) -> dict[str, str]:
    """Label by hash of the runs that the study asks for."""
    experiment = store.experiment(results.study)
    parents = store.runs([experiment.experiment_id], {"kind": (KIND_STUDY,)}) if experiment else []
    parent = next((run for run in parents if run.info.run_id == results.parent_id), None)
    return rows_of(parent) if parent else {}


def _listed(row: dict[str, object], run: StoredRun | None, runs_folder: Path) -> ListedRun:
    times = [row.get(name) for name in _TIMES]
    seconds = sum(time for time in times if isinstance(time, float) and math.isfinite(time))
    tags = run.data.tags if run else {}
    training = tags.get(Tag.TRAINING_HASH, "")
    place = place_of(training, runs_folder)
    if not place and training and row["status"] == FINISHED and tags.get(Tag.IMPORTED) != "true":
        place = "tracking store"
    return ListedRun(
        run_id=str(row["run_id"]),
        label=str(row["label"]),
        seed=None if row["reference"] else int(str(row["seed"])),
        status=str(row["status"]),
        reason=str(row["reason"] or ""),
        seconds=seconds or None,
        run_hash=str(row["run_hash"]),
        training_hash=training,
        where=place,
    )


def _not_started(run_hash: str, label: str) -> ListedRun:
    return ListedRun(
        run_id="",
        label=label,
        seed=None,
        status=NOT_STARTED,
        reason="",
        seconds=None,
        run_hash=run_hash,
        training_hash="",
        where="",
    )
