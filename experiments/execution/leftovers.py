"""Find what runs have left on disk and in the store that nobody needs any more."""

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.common.atomic_files import MARK
from experiments.common.run_folder import REFERENCES, STATE, is_trained
from experiments.data import cache_directory
from experiments.execution.study_runner import DAY
from experiments.tracking import places
from experiments.tracking.removal import remove_run
from experiments.tracking.schema import (
    FINISHED,
    KIND_RUN,
    KIND_WARM_START,
    Tag,
    status_of,
    superseded,
)
from experiments.tracking.stored import Reader, StoredRun

_TRAINING = re.compile(r"[0-9a-f]{16}")
KINDS = {
    "states": "states of trainings that are over, from which nothing goes on",
    "superseded": "runs in the store that run --force put aside, where a new one has finished",
    "references": "what metrics computed from references alone; computed again when needed",
    "corpora": "prepared corpora that were not used for long; prepared again when needed",
    "leftovers": "files that killed processes left half written",
    "unused": "weights that no run of this store names; another store may need them",
}
ASKED_FOR = ("unused",)  # deleted only where that kind is named


@dataclass(frozen=True)
class Leftover:
    """Something to delete. size: bytes."""

    kind: str
    name: str
    size: int
    delete: Callable[[], None]


def find(store: Reader | None, runs_folder: Path, older_than: float) -> list[Leftover]:
    """All that may be deleted. older_than: seconds for which a corpus was not used.

    What is under way is left alone. Raises TrackingError.
    """
    runs = _all_runs(store) if store else []
    return [
        *_states(runs_folder),
        *(_superseded(store, runs) if store else ()),
        *_folders("references", [runs_folder / REFERENCES]),
        *_folders("corpora", _old_corpora(cache_directory(), older_than)),
        *_folders("leftovers", _half_written(runs_folder)),
        *(_folders("unused", _unused(runs_folder, runs)) if store else ()),
    ]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; a file that has two names there counts once."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    seen: dict[tuple[int, int], int] = {}
    for file in files:
        with suppress(OSError):
            about = file.stat()
            seen[about.st_dev, about.st_ino] = about.st_size
    return sum(seen.values())


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _folders(kind: str, paths: Iterable[Path]) -> Iterator[Leftover]:
    for path in paths:
        if path.exists():
            yield Leftover(kind, str(path), size_of(path), partial(_delete, path))


def _trainings(runs_folder: Path) -> list[Path]:
    if not runs_folder.is_dir():
        return []
    return sorted(path for path in runs_folder.iterdir() if _TRAINING.fullmatch(path.name) and path.is_dir())


def _states(runs_folder: Path) -> Iterator[Leftover]:
    """States beside the weights of a training: it removes them itself, unless it is killed just then."""
    for folder in _trainings(runs_folder):
        if is_trained(folder):
            names = (STATE, f"{Path(STATE).stem}.previous{Path(STATE).suffix}")
            yield from _folders("states", [folder / name for name in names])


def _all_runs(store: Reader) -> list[StoredRun]:
    experiments = [one.experiment_id for one in store.experiments()]
    return store.runs(experiments, {"kind": (KIND_RUN, KIND_WARM_START)}, metrics=())


def _superseded(store: Reader, runs: Sequence[StoredRun]) -> Iterator[Leftover]:
    """Runs that were put aside and that no table needs, since a newer one of their identity has finished."""
    finished = {
        run.data.tags.get(Tag.RUN_HASH)
        for run in runs
        if status_of(run)[0] == FINISHED and not superseded(run)
    }
    for run in runs:
        if superseded(run) and run.data.tags.get(Tag.RUN_HASH) in finished:
            place = places.current(run.info.artifact_uri, store.uri)
            size = size_of(place) if place else 0
            name = f"{run.data.tags.get(Tag.LABEL) or run.info.run_name}, run {run.info.run_id}"
            yield Leftover("superseded", name, size, partial(remove_run, store.uri, run.info.run_id))


def _old_corpora(cache: Path, older_than: float) -> list[Path]:
    if not cache.is_dir():
        return []
    folders = [path for path in cache.iterdir() if (path / "index.json").is_file()]
    return sorted(path for path in folders if time.time() - _last_use(path / "index.json") > older_than)


def _last_use(path: Path) -> float:
    """When a file was read or written last, as far as the disk notes it."""
    about = path.stat()
    return max(about.st_atime, about.st_mtime)


def _half_written(runs_folder: Path) -> list[Path]:
    """Files and folders that are a day old: those of a process on another machine may be younger."""
    patterns = (f".*{MARK}", f"*/.*{MARK}", f"{REFERENCES}/*/.*{MARK}")
    found = [path for pattern in patterns for path in runs_folder.glob(pattern)]
    cache = cache_directory()
    found += [path for path in cache.glob(".*.partial-*") if cache.is_dir()]
    return sorted({path for path in found if time.time() - path.stat().st_mtime > DAY})


def _unused(runs_folder: Path, runs: Sequence[StoredRun]) -> list[Path]:
    """Folders of trainings that no run of the store names. None where it names none of them: the folder is
    then that of another store."""
    named = {run.data.tags.get(Tag.TRAINING_HASH) for run in runs}
    named |= {run.data.tags.get(Tag.RUN_HASH) for run in runs}
    folders = _trainings(runs_folder)
    unused = [folder for folder in folders if folder.name not in named]
    return [] if len(unused) == len(folders) else unused
