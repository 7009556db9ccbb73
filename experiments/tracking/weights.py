"""Trained weights kept in the tracking store, so that a machine that lacks them does not train them again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.common.atomic_files import partial_name
from experiments.common.run_folder import (
    HISTORY,
    SNAPSHOTS,
    SUMMARY,
    WEIGHTS,
    discard_trained,
    is_intact,
    is_trained,
)
from experiments.tracking import logged_model
from experiments.tracking.artifacts import CHECKPOINT
from experiments.tracking.schema import superseded

if TYPE_CHECKING:
    from experiments.tracking.store import Store


_log = logging.getLogger("codecbench.tracking")


def log(store: Store, run_id: str, name: str, directory: Path, config: Mapping[str, Any], steps: int) -> str:
    """Log what is in `directory` with a run: the weights as a model, whose id is returned, and as artifacts
    snapshots and metrics by step of the training and, last, its summary, which says that all is there."""
    model_id = logged_model.log(store, run_id, name, directory / WEIGHTS, config, steps)
    for file, place in ((SNAPSHOTS, ""), (HISTORY, CHECKPOINT), (SUMMARY, CHECKPOINT)):
        if (directory / file).exists():
            store.log_file(run_id, directory / file, place)
    return model_id


def fetch(
    store: Store, training_hash: str, directory: Path, warn: Callable[[str], None] = _log.warning
) -> bool:
    """Bring the weights of a training into `directory`, from the newest run of any study that has good ones.

    Damaged weights there are replaced, or removed where the store has none; `warn` is told of them. Returns
    whether good ones are there now. Raises TrackingError when the store has some and does not give them.
    """
    damaged = is_trained(directory)
    if damaged and is_intact(directory):
        return True
    for run in reversed(store.search_everywhere(training_hash=training_hash)):
        if not superseded(run) and _fetch(store, str(run.info.run_id), directory, warn):
            if damaged:
                warn(f"{directory / WEIGHTS} was damaged; its copy in the tracking store takes its place")
            return True
    if damaged:
        warn(f"{directory / WEIGHTS} is damaged, and the tracking store has no copy; it is trained again")
        discard_trained(directory)
    return False


def _fetch(store: Store, run_id: str, directory: Path, warn: Callable[[str], None]) -> bool:
    """Bring the weights that a run left into `directory`, if they are whole."""
    if f"{CHECKPOINT}/{SUMMARY}" not in store.files(run_id, CHECKPOINT):
        return False
    wanted = {SNAPSHOTS, f"{CHECKPOINT}/{HISTORY}", f"{CHECKPOINT}/{SUMMARY}"}
    wanted &= store.files(run_id, CHECKPOINT) | store.files(run_id, "")
    temporary = directory / partial_name(WEIGHTS)
    temporary.mkdir(parents=True)
    try:
        if logged_model.fetch(store, run_id, temporary) is None:
            return False
        for path in wanted:
            copy = store.fetch_file(run_id, path, temporary)
            copy.replace(temporary / copy.name)
        if not is_intact(temporary):
            warn(f"the weights of run {run_id} in the tracking store are damaged")
            return False
        for name in (SNAPSHOTS, HISTORY, WEIGHTS, SUMMARY):  # the summary says that all is there
            if (temporary / name).exists():
                (temporary / name).replace(directory / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True
