"""Find one run in a tracking store by its id, or by the beginning of its id or hash."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.tracking.errors import shown
from experiments.tracking.reader import reader
from experiments.tracking.schema import KIND_RUN, KIND_STUDY, KIND_WARM_START, Tag, newest
from experiments.tracking.stored import Reader, StoredRun

SHORTEST = 4  # characters of an id or a hash
_HASHES = (Tag.RUN_HASH, Tag.TRAINING_HASH)


class RunError(ValueError):
    """No run, or more than one, is meant, or it has no weights; the message says what to give."""


def the_run(given: str, uri: str) -> tuple[StoredRun, str]:
    """The run that an MLflow id, a run's hash or a training's hash names, in full or by its beginning, and
    the name of its study. Of several of one identity it is the newest that finished. Raises RunError,
    TrackingError."""
    store = reader(uri)
    if len(given) < SHORTEST:
        raise RunError(f"{given!r} is too short; give at least {SHORTEST} characters of an id or a hash")
    fitting = [
        run
        for run in all_runs(store, (KIND_RUN, KIND_WARM_START, KIND_STUDY))
        if any(text.startswith(given) for text in (run.info.run_id, *map(run.data.tags.get, _HASHES)) if text)
    ]
    exact = [run for run in fitting if run.info.run_id == given]
    chosen = exact or [*newest(fitting, put_aside_too=True).values()]
    if not chosen:
        raise RunError(f"no run {given!r} in {shown(uri)}; `codecbench runs STUDY` lists the runs of a study")
    if len(chosen) > 1:
        several = "; ".join(f"{run.info.run_id} ({label_of(run)})" for run in chosen[:10])
        raise RunError(
            f"{given!r} is the beginning of {len(chosen)} ids or hashes; give more digits: {several}"
        )
    studies = {one.experiment_id: one.name for one in store.experiments()}
    return chosen[0], studies.get(chosen[0].info.experiment_id, "")


def all_runs(store: Reader, kinds: Sequence[str] = (KIND_RUN,)) -> list[StoredRun]:
    """Runs of all studies, the oldest first."""
    return store.runs([one.experiment_id for one in store.experiments()], {"kind": kinds})


def label_of(run: StoredRun) -> str:
    """Row and seed of a run, or its name."""
    label, seed = run.data.tags.get(Tag.LABEL), run.data.tags.get(Tag.SEED)
    return f"{label or run.info.run_name}" + (f", seed {seed}" if seed else "")
