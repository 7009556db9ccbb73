"""The file of a local store: made whole or not at all, and told apart from one that was left half made.

MLflow makes the tables of a new SQLite store in some fifty migrations that are no transaction: a kill in
between, or a second process that does the same, leaves a file that no version of MLflow opens again. So a new
store is made in a file beside it, under a lock, and linked to its name when it is whole. The migrations take
seconds, so the empty tables are kept in the user's cache, and the next new store starts from a copy of them.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from experiments.common.atomic_files import MARK, remove_stale, replacing
from experiments.common.file_lock import locked
from experiments.common.user_cache import cache_directory
from experiments.tracking.errors import TrackingError, explained, upgrade

_STALE_SECONDS = 3600.0  # after which a half-written file in the cache, which machines may share, is nobody's
BUSY_SECONDS = 20.0  # for which a file that another process writes to is waited for
QUIET_SECONDS = 10.0  # without a change, after which nobody is still making the tables of a file

_OF_MLFLOW = {"alembic_version", "experiments", "runs"}
_OF_ITS_OWN = {"alembic_version", "workspaces"}  # tables with rows in a store that nobody has used
_COPY = "_alembic_tmp_"  # begins the name of a table that takes another's place

_log = logging.getLogger("codecbench.tracking")


class State(enum.Enum):
    """What stands at the place of a store."""

    MISSING = "no file"
    EMPTY = "a file without tables"
    WHOLE = "a store of this version of MLflow"
    OTHER = "tables of another version of MLflow, or between two"
    FOREIGN = "a database that is no store"


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads, also where a killed writer left its journal. Raises sqlite3.Error."""
    address = f"{path.resolve().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA query_only = ON")
        yield connection


def tables(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables of a database."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def state(path: Path, head: str) -> State:
    """What stands at `path`, where `head` is the revision of this MLflow's tables. Raises sqlite3.Error."""
    if not path.exists():
        return State.MISSING
    if path.stat().st_size == 0:
        return State.EMPTY
    with opened(path) as connection:
        names = tables(connection)
        if not names:
            return State.EMPTY
        if not {name.removeprefix(_COPY) for name in names} & _OF_MLFLOW:
            return State.FOREIGN
        revisions = set()
        if "alembic_version" in names:
            revisions = {row[0] for row in connection.execute("SELECT version_num FROM alembic_version")}
        return State.WHOLE if revisions == {head} else State.OTHER


def holds_nothing(path: Path) -> bool:
    """Whether nothing but what MLflow puts in by itself is in the tables at `path`."""
    with opened(path) as connection:
        for name in tables(connection):
            whole = name.removeprefix(_COPY)
            most = 1 if whole == "experiments" else 0  # MLflow's own is called Default
            if whole not in _OF_ITS_OWN and _rows(connection, name, most + 1) > most:
                return False
    return True


def make_ready(path: Path, uri: str, *, make: bool) -> None:
    """See that there is a whole store at `path`, the file of `uri`.

    make: whether to make one where there is none. A file that was left half made is set aside when it holds
    nothing. One that holds something and is of another version of MLflow stays as it is: to change its tables
    is for its owner to decide, when nobody else uses it.

    Raises TrackingError.
    """
    from mlflow.store.db.utils import _get_latest_schema_revision

    head = _get_latest_schema_revision()
    with explained(uri, training=True):
        found = state(path, head)
        if found is State.WHOLE:
            return
        if found is State.MISSING and not make:
            raise gone(path)
        with locked(path) as alone:
            for stale in _unfinished(path) if alone else ():
                stale.unlink(missing_ok=True)
            found = _settled(path, head)
            if found is State.OTHER and holds_nothing(path):
                _set_aside(path)
                found = State.MISSING
            if found in (State.MISSING, State.EMPTY):
                _make(path, found, head)
                found = state(path, head)
    if found is State.FOREIGN:
        raise TrackingError(
            f"{path} is an SQLite database, but not of MLflow. Remedy: give the store another name, such as "
            f"sqlite:///{path.with_name('mlflow.db')}"
        )
    if found is not State.WHOLE:
        raise TrackingError(other_version(path, uri))


def gone(path: Path) -> TrackingError:
    """The error for a store that was there when the work began."""
    return TrackingError(
        f"the tracking store {path} was deleted or replaced while it was in use. Remedy: put it back if you "
        "can, and start the same command again: it resumes from the checkpoints and logs what is missing",
        gone=True,
    )


def other_version(path: Path, uri: str) -> str:
    """What to tell of a store with other tables than this MLflow's."""
    import mlflow

    return (
        f"the tracking store {path} has the tables of another version of MLflow than {mlflow.__version__}. "
        f"Remedy: if it is an older one's, {upgrade(uri)}; if it is a newer one's, install that; if it was "
        f"left between two, take the runs over by `codecbench export STUDY --tracking-uri {uri}` and "
        "`codecbench import STUDY.zip --tracking-uri sqlite:///new.db`"
    )


def _rows(connection: sqlite3.Connection, table: str, most: int) -> int:
    """The number of rows of a table, as far as `most`."""
    quoted = table.replace('"', '""')
    return len(connection.execute(f'SELECT 1 FROM "{quoted}" LIMIT {most}').fetchall())


def _settled(path: Path, head: str) -> State:
    """The state of a file, once nobody seems to be making its tables: another program may be MLflow's own."""
    told = False
    while True:
        found = state(path, head)
        if found not in (State.OTHER, State.EMPTY):
            return found
        quiet = time.time() - path.stat().st_mtime
        if quiet > QUIET_SECONDS or (found is State.OTHER and not holds_nothing(path)):
            return found
        if not told:
            _log.warning("%s is incomplete: waiting, since another program may be creating it", path)
            told = True
        time.sleep(0.2)


def _unfinished(path: Path) -> list[Path]:
    """What makers of the store left that were killed: the files, and SQLite's own beside them."""
    return [one for one in path.parent.glob(".*") if one.name.startswith(_prefix(path)) and MARK in one.name]


def _prefix(path: Path) -> str:
    return f".{path.name[:40]}.new-"


def _set_aside(path: Path) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.half-made-{number}")).exists():
        number += 1
    path.rename(aside)
    _log.warning(
        "%s is incomplete, because the program that created it was killed. It holds no run. It was renamed "
        "to %s, which you may delete, and a new store was created",
        path,
        aside.name,
    )


def _make(path: Path, found: State, head: str) -> None:
    """Make a store beside `path`, and give it that name when it is whole. Another one there is kept."""
    import mlflow
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    kept = cache_directory() / "empty-stores" / f"mlflow-{mlflow.__version__}-{head}.db"

    partial = path.with_name(f"{_prefix(path)}{os.getpid()}-{uuid.uuid4().hex[:8]}{MARK}")
    try:
        if not _copied(kept, partial, head):
            _make_tables(partial)
            _keep(partial, kept)
        # It adds what belongs to this place, such as MLflow's own experiment and the folder of its files.
        SqlAlchemyStore(f"sqlite:///{partial}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        _forget_connections(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        if found is State.EMPTY:
            path.unlink()
        try:
            os.link(partial, path)
        except FileExistsError:  # a program without this lock was first
            pass
        except OSError:  # a disk without links
            partial.rename(path)
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            partial.with_name(f"{partial.name}{end}").unlink(missing_ok=True)
    _forget_connections(path)


def _make_tables(path: Path) -> None:
    """Make the tables of a store, without a row but the revision, in the new file `path`."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.pool.NullPool)
    _initialize_tables(engine)
    engine.dispose()


def _copied(kept: Path, path: Path, head: str) -> bool:
    """Whether `path` is now a copy of the tables that are `kept`; without a file where those are damaged."""
    with contextlib.suppress(OSError, sqlite3.Error):
        shutil.copyfile(kept, path)
        with opened(path) as connection:
            intact = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        if intact and state(path, head) is State.WHOLE and holds_nothing(path):
            return True
    path.unlink(missing_ok=True)
    return False


def _keep(path: Path, kept: Path) -> None:
    """Keep a copy of the tables at `path`, and none of another version of MLflow.

    Where the cache takes no file, the next store takes as long.
    """
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(kept.parent, older_than=_STALE_SECONDS)
        with replacing(kept) as partial:
            shutil.copyfile(path, partial)
        for other in kept.parent.glob("mlflow-*.db"):
            if other != kept:
                other.unlink()


def _forget_connections(path: Path) -> None:
    """MLflow keeps connections by address; those to a file that stood here before lead nowhere."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    kept = getattr(SqlAlchemyStore, "_engine_map", {})
    for address, engine in list(kept.items()):
        if engine.url.database and Path(engine.url.database).resolve() == path.resolve():
            engine.dispose()
            del kept[address]
