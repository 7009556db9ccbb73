"""Trained weights kept in the tracking store, so that a machine that lacks them does not train them again."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.common.run_folder import HISTORY, SNAPSHOTS, SUMMARY, WEIGHTS, is_trained
from experiments.tracking import logged_model
from experiments.tracking.artifacts import CHECKPOINT
from experiments.tracking.schema import superseded

if TYPE_CHECKING:
    from experiments.tracking.store import Store


def log(store: Store, run_id: str, name: str, directory: Path, config: Mapping[str, Any], steps: int) -> str:
    """Log what is in `directory` with a run: the weights as a model, whose id is returned, and as artifacts
    snapshots and metrics by step of the training and, last, its summary, which says that all is there."""
    model_id = logged_model.log(store, run_id, name, directory / WEIGHTS, config, steps)
    for file, place in ((SNAPSHOTS, ""), (HISTORY, CHECKPOINT), (SUMMARY, CHECKPOINT)):
        if (directory / file).exists():
            store.log_file(run_id, directory / file, place)
    return model_id


def fetch(store: Store, training_hash: str, directory: Path) -> bool:
    """Bring the weights of a training into `directory`, from the newest run of any study that has them.

    Returns whether they are there. Raises TrackingError when the store has them and does not give them.
    """
    if is_trained(directory):
        return True

    for run in reversed(store.search_everywhere(training_hash=training_hash)):
        run_id = str(run.info.run_id)
        there = set() if superseded(run) else store.files(run_id, CHECKPOINT)
        if f"{CHECKPOINT}/{SUMMARY}" not in there:
            continue
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as temporary:
            weights = logged_model.fetch(store, run_id, Path(temporary))
            if weights is None:
                continue
            weights.replace(directory / WEIGHTS)
            there |= store.files(run_id, "")
            for path in (SNAPSHOTS, f"{CHECKPOINT}/{HISTORY}", f"{CHECKPOINT}/{SUMMARY}"):
                if path in there:
                    copy = store.fetch_file(run_id, path, Path(temporary))
                    copy.replace(directory / copy.name)
        return True
    return False
