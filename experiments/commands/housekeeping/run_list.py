"""List the runs of a study, as its tracking store and the folder of runs have them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from analysis import load
from analysis.results.study_results import Results, records
from experiments.common.run_folder import STATE, is_trained
from experiments.tracking.named_runs import all_runs
from experiments.tracking.reader import reader
from experiments.tracking.schema import FINISHED, KIND_STUDY, Tag, rows_of
from experiments.tracking.stored import Reader, StoredRun

NOT_STARTED = "not started"
_TIMES = ("cost/train_seconds", "cost/evaluate_seconds")


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
    stored = {run.info.run_id: run for run in all_runs(store)}
    frames = [frame for frame in (results.runs, results.references) if len(frame)]
    listed = [
        _listed(run, stored.get(str(run["run_id"])), runs_folder)
        for frame in frames
        for run in records(frame)
    ]
    known = {run.run_hash for run in listed}
    missing = {key: label for key, label in _wanted(results, store).items() if key not in known}
    return listed + [_not_started(key, label) for key, label in missing.items()]


def place_of(training_hash: str, runs_folder: Path) -> str:
    """The folder of a training, if it holds its weights, or the state that it goes on from."""
    folder = runs_folder / training_hash
    if not training_hash:
        return ""
    if is_trained(folder):
        return str(folder)
    return f"{folder} (state)" if (folder / STATE).exists() else ""


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
