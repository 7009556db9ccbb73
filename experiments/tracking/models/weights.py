"""Trained weights kept in the tracking store, so that a machine that lacks them does not train them again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from experiments.common.atomic_files import partial_name
from experiments.common.run_folder import (
    DECAYED,
    HISTORY,
    SNAPSHOTS,
    SUMMARY,
    WEIGHTS,
    discard_trained,
    is_intact,
    is_trained,
)
from experiments.common.tensor_files import DamagedFile
from experiments.tracking.artifacts import CHECKPOINT
from experiments.tracking.models import logged_model
from experiments.tracking.schema import superseded
from experiments.tracking.store import Store, TrackingError

_log = logging.getLogger("codecbench.tracking")


def log(store: Store, run_id: str, name: str, directory: Path, config: Mapping[str, Any], steps: int) -> str:
    """Log what is in `directory` with a run: the weights as a model, whose id is returned, and as artifacts
    snapshots, metrics by step, and weights at budgets before the last; at the very end the training's
    summary, which says that all is there."""
    model_id = logged_model.log(store, run_id, name, directory / WEIGHTS, config, steps)
    decayed = [(path.name, CHECKPOINT) for path in sorted(directory.glob(DECAYED))]
    for file, place in ((SNAPSHOTS, ""), (HISTORY, CHECKPOINT), *decayed, (SUMMARY, CHECKPOINT)):
        if (directory / file).exists():
            store.log_file(run_id, directory / file, place)
    return model_id


def fetch(
    store: Store, training_hash: str, directory: Path, warn: Callable[[str], None] = _log.warning
) -> bool:
    """Bring the weights of a training into `directory`, from the newest run of any study that has good ones.

    Damaged weights there are replaced, or removed where the store has none; a copy in the store that is
    damaged or lost does not count as one any more. `warn` is told, once. Returns whether good weights are
    there now. Raises TrackingError when the store has some and does not give them.
    """
    damage: list[str] = []
    if is_trained(directory):
        if is_intact(directory):
            return True
        damage.append(f"{directory / WEIGHTS} or its summary is damaged")
    for run in reversed(store.search_everywhere(training_hash=training_hash)):
        run_id = str(run.info.run_id)
        if superseded(run):
            continue
        try:
            if _fetch(store, run_id, directory):
                if damage:
                    warn(f"{'; '.join(damage)}; the copy in the tracking store takes its place")
                return True
        except DamagedFile as error:
            logged_model.reject(store, run_id)
            damage.append(f"the copy of run {run_id} in the tracking store cannot be used: {error}")
    if damage:
        warn(f"{'; '.join(damage)}; it is trained again")
        discard_trained(directory)
    return False


def _fetch(store: Store, run_id: str, directory: Path) -> bool:
    """Bring the weights that a run left into `directory`, if it has some. Raises DamagedFile."""
    if f"{CHECKPOINT}/{SUMMARY}" not in store.files(run_id, CHECKPOINT):
        return False
    temporary = directory / partial_name(WEIGHTS)
    temporary.mkdir(parents=True)
    try:
        if logged_model.fetch(store, run_id, temporary) is None:
            return False
        logged = store.files(run_id, CHECKPOINT)
        decayed = {path for path in logged if fnmatch(path, f"{CHECKPOINT}/{DECAYED}")}
        wanted = {SNAPSHOTS, f"{CHECKPOINT}/{HISTORY}", f"{CHECKPOINT}/{SUMMARY}", *decayed}
        for path in wanted & (logged | store.files(run_id, "")):
            copy = store.fetch_file(run_id, path, temporary)
            copy.replace(temporary / copy.name)
        if not is_intact(temporary):
            raise DamagedFile("its content has changed since it was written")
        names = [SNAPSHOTS, HISTORY, *(Path(path).name for path in decayed), WEIGHTS]
        for name in (*names, SUMMARY):  # the summary says that all is there
            if (temporary / name).exists():
                (temporary / name).replace(directory / name)
    except (TrackingError, OSError) as error:
        if not _is_missing(error):
            raise
        raise DamagedFile("a file of it is gone") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _is_missing(error: BaseException) -> bool:
    """Whether the store has lost a file, rather than being away or keeping it from this user."""
    texts = (str(error), str(error.__cause__))
    signs = ("No such file or directory", "No such artifact", "RESOURCE_DOES_NOT_EXIST", "NoSuchKey", "404")
    return any(sign in text for sign in signs for text in texts)
