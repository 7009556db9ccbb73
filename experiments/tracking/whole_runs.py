"""Put whole runs into a store at once, as they come out of an archive.

Into an SQLite file they go directly, many in one transaction: a hundred times faster than by MLflow's client,
and a kill leaves a run there whole or not at all. Into any other store each is logged as a run that is under
way; `Tag.IMPORTED` comes last and says that all of it arrived.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from experiments.tracking import places
from experiments.tracking.addresses import sqlite_path
from experiments.tracking.errors import explained
from experiments.tracking.schema import PARENT_TAG, Tag, short
from experiments.tracking.sqlite_file import BUSY_SECONDS
from experiments.tracking.store import BATCH, Store

_POINTS = 50_000  # values of metrics in a transaction: about half a second, for which others wait

# Columns of MLflow's tables that are written; any further one must have a default, or may be empty.
_COLUMNS = {
    "runs": (
        *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status"),
        *("start_time", "end_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
    ),
    "tags": ("key", "value", "run_uuid"),
    "params": ("key", "value", "run_uuid"),
    "metrics": ("key", "value", "timestamp", "run_uuid", "step", "is_nan"),
    "latest_metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"),
}


def _no_files(_: Path) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class WholeRun:
    """One run with all that it has. Times are milliseconds since 1970.

    origin: its id where it comes from; a parent is named by its own. points: metric, step and value of each
    value that was logged. write_files: writes its artifacts into a folder.
    """

    origin: str
    study: str
    name: str
    status: str
    start_time: int
    end_time: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: Sequence[tuple[str, int, float]]
    write_files: Callable[[Path], None] = field(default=_no_files)

    def all_tags(self, ids: Mapping[str, str]) -> dict[str, str]:
        """Its tags in this store, where `ids` has the run of each origin."""
        tags = {**self.tags, Tag.ORIGIN: self.origin, Tag.IMPORTED: "true"}
        if PARENT_TAG in tags:
            tags[PARENT_TAG] = ids.get(tags[PARENT_TAG], tags[PARENT_TAG])
        return tags


def put(runs: Sequence[WholeRun], stores: Mapping[str, Store], ids: Mapping[str, str]) -> Iterator[WholeRun]:
    """Put `runs` into a store, and yield each when it is there.

    stores: that store, once for each study. ids: the runs that it has already, by origin. Raises
    TrackingError.
    """
    known = dict(ids)
    # Parents first: their children name them.
    ordered = sorted(runs, key=lambda run: PARENT_TAG in run.tags)
    folders = _local_folders(stores)
    if folders is None:
        for run in ordered:
            known[run.origin] = _put_by_client(run, stores[run.study], known)
            yield run
        return
    known |= {run.origin: uuid.uuid4().hex for run in ordered}
    (path, uri) = next((sqlite_path(store.uri), store.uri) for store in stores.values())
    assert path is not None
    for group in _groups(ordered):
        with explained(uri):
            _put_directly(path, group, {run.origin: folders[run.study] for run in group}, known, stores)
        yield from group


def _local_folders(stores: Mapping[str, Store]) -> dict[str, Path] | None:
    """Where the artifacts of each study go, if the store is a file with the tables that are known here, and
    these are folders; else None."""
    folders: dict[str, Path] = {}
    for study, store in stores.items():
        path = sqlite_path(store.uri)
        if path is None or not _fits(path, store.uri):
            return None
        location = store.patiently(partial(store.client.get_experiment, store.experiment_id))
        folder = places.local_folder(str(location.artifact_location or ""))
        if folder is None:
            return None
        folders[study] = folder
    return folders


def _fits(path: Path, uri: str) -> bool:
    with explained(uri), closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        for table, written in _COLUMNS.items():
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            there = {name for _, name, *_ in columns}
            left_out = [row for row in columns if row[1] not in written]
            if not set(written) <= there or any(row[3] and row[4] is None for row in left_out):
                return False
    return True


def _groups(runs: Sequence[WholeRun]) -> Iterator[list[WholeRun]]:
    """Runs in groups, each small enough for a transaction."""
    group: list[WholeRun] = []
    points = 0
    for run in runs:
        if group and points + len(run.points) > _POINTS:
            yield group
            group, points = [], 0
        group.append(run)
        points += len(run.points)
    if group:
        yield group


def _put_directly(
    path: Path,
    group: Sequence[WholeRun],
    folders: Mapping[str, Path],
    ids: Mapping[str, str],
    stores: Mapping[str, Store],
) -> None:
    """Write a group's files, then its rows in one transaction."""
    written: list[Path] = []
    try:
        rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in _COLUMNS}
        for run in group:
            folder = folders[run.origin] / ids[run.origin] / "artifacts"
            written.append(folder.parent)
            folder.mkdir(parents=True)
            run.write_files(folder)
            _add_rows(rows, run, folder, ids, stores[run.study].experiment_id)
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for table, columns in _COLUMNS.items():
                marks = ", ".join("?" * len(columns))
                statement = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
                connection.executemany(statement, rows[table])
            connection.execute("COMMIT")
    except BaseException:
        for folder in written:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _add_rows(
    rows: Mapping[str, list[tuple[object, ...]]],
    run: WholeRun,
    folder: Path,
    ids: Mapping[str, str],
    experiment_id: str,
) -> None:
    """Add the rows of a run, as MLflow's own store writes them."""
    run_id, time_ = ids[run.origin], run.start_time
    end = run.end_time
    rows["runs"].append(
        (
            *(run_id, run.name, "UNKNOWN", "", "", "unknown", run.status if end is not None else "RUNNING"),
            *(time_, end, "", "active", str(folder), int(experiment_id)),
        )
    )
    tags = {**run.all_tags(ids), "mlflow.runName": run.name}
    rows["tags"] += [(key, value, run_id) for key, value in tags.items()]
    rows["params"] += [(key, short(value), run_id) for key, value in run.params.items()]
    latest: dict[str, tuple[int, float, bool]] = {}
    for key, step, value in run.points:
        is_nan, number = _stored(value)
        rows["metrics"].append((key, number, time_, run_id, step, is_nan))
        if key not in latest or (step, number) > latest[key][:2]:
            latest[key] = step, number, is_nan
    rows["latest_metrics"] += [
        (key, number, time_, step, is_nan, run_id) for key, (step, number, is_nan) in latest.items()
    ]


def _stored(value: float) -> tuple[bool, float]:
    """Whether a value is none, and the number that stands for it in the database."""
    if math.isnan(value):
        return True, 0.0
    return False, max(-sys.float_info.max, min(value, sys.float_info.max))


def _put_by_client(run: WholeRun, store: Store, ids: Mapping[str, str]) -> str:
    from mlflow.entities import Metric, Param, RunTag

    last = (Tag.STATUS, Tag.IMPORTED)  # it arrived
    tags = run.all_tags(ids)
    early = {key: value for key, value in tags.items() if key not in last}
    client = store.client
    new = store.patiently(lambda: client.create_run(store.experiment_id, run.start_time, early, run.name))
    run_id = str(new.info.run_id)
    params = [Param(key, short(value)) for key, value in run.params.items()]
    for start in range(0, len(params), 100):
        store.patiently(partial(client.log_batch, run_id, params=params[start : start + 100]))
    metrics = [Metric(key, value, run.start_time, step) for key, step, value in run.points]
    for start in range(0, len(metrics), BATCH):
        store.patiently(partial(client.log_batch, run_id, metrics=metrics[start : start + BATCH]))
    with tempfile.TemporaryDirectory(prefix="codecbench-") as temporary:
        run.write_files(Path(temporary))
        if any(Path(temporary).iterdir()):
            store.log_files(run_id, Path(temporary))
    if (end := run.end_time) is not None:  # a study that goes on has no end
        store.patiently(lambda: client.set_terminated(run_id, run.status, end))
    late = [RunTag(key, tags[key]) for key in last if key in tags]
    store.patiently(lambda: client.log_batch(run_id, tags=late))
    return run_id
