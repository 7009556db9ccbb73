"""The file of a local store: whole or not there, whoever makes it and whenever that is killed."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from analysis import load
from experiments.tracking import sqlite_file
from experiments.tracking.schema import rows
from experiments.tracking.store import Store, TrackingError

# Processes that are forked from one that has imported MLflow, so that they begin at the same time.
AT_ONCE = """
import json, os, signal, sys, time
from pathlib import Path
from experiments.tracking.client import quiet_mlflow
quiet_mlflow()
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
import alembic.command
from experiments.tracking.store import Store

def begin(number):
    child = os.fork()
    if child == 0:
        try:
            told = f"ok {Store('sqlite:///mlflow.db', 'study').experiment_id}"
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        Path(f"told-{number}").write_text(told)
        os._exit(0)
    return child

mode, number = sys.argv[1], int(sys.argv[2])
children = [begin(each) for each in range(number)]
if mode == "kill":
    for child in children:
        while not list(Path().glob(".mlflow.db.new-*")):
            time.sleep(0.005)
        time.sleep(float(sys.argv[3]))
        os.kill(child, signal.SIGKILL)
for child in children:
    os.waitpid(child, 0)
"""


def processes(folder: Path, *arguments: object) -> list[str]:
    """What each process told."""
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", AT_ONCE, *map(str, arguments)]
    # With a cache of their own, as on a new machine: the tables are made, not copied.
    environment = {**os.environ, "PYTHONPATH": root, "CODECBENCH_CACHE": str(folder / "told-cache")}
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=600)
    return [path.read_text() for path in sorted(folder.glob("told-[0-9]*"))]


def half_made(path: Path, steps: int = 20, *, torn: bool = True) -> Callable[[], None]:
    """Make a store as MLflow does, and stop after some of its migrations; returns what goes on with it.

    torn: as a kill leaves it, in the middle of a migration: what it adds is there, and it does not count.
    """
    import sqlalchemy
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.pool.NullPool)
    config = utils._get_alembic_config(f"sqlite:///{path}")
    revisions = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()][::-1]

    def upgrade(revision: str) -> None:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

    Base.metadata.create_all(engine)
    upgrade(revisions[steps])
    if torn:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revisions[steps - 1],))
    return lambda: upgrade("heads")


def put_run(path: Path) -> None:
    """A study of one run, in the tables that all versions have."""
    tags = {"codecbench.kind": "run", "codecbench.status": "finished", "codecbench.label": "fsq"}
    tags |= {"codecbench.run_hash": "h", "mlflow.parentRunId": "p"}
    parent = {"codecbench.kind": "study", **rows({"h": "fsq"})}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage, artifact_location) "
            "VALUES (7, 'old', 'active', '/nowhere/7')"
        )
        for run, these in (("p", parent), ("r", tags)):
            connection.execute(
                "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status, start_time, "
                "user_id, artifact_uri) VALUES (?, 'x', 7, 'active', 'FINISHED', 1, 'me', '/nowhere')",
                (run,),
            )
            for key, value in these.items():
                connection.execute(
                    "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)", (run, key, value)
                )


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def age(path: Path) -> None:
    os.utime(path, (time.time() - 60,) * 2)


@pytest.mark.slow
def test_many_first_starts_at_once_all_work(tmp_path: Path) -> None:
    assert processes(tmp_path, "start", 4) == ["ok 1"] * 4
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("told")) == [
        ".mlflow.db.lock",
        "mlflow.db",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "seconds", [pytest.param(0.0, marks=pytest.mark.long), 0.4, pytest.param(1.2, marks=pytest.mark.long)]
)
def test_a_kill_while_the_store_is_made_breaks_nothing(tmp_path: Path, seconds: float) -> None:
    processes(tmp_path, "kill", 1, seconds)
    assert list(tmp_path.glob(".mlflow.db.new-*")) or (tmp_path / "mlflow.db").exists()
    assert processes(tmp_path, "start", 2)[-2:] == ["ok 1"] * 2
    assert not list(tmp_path.glob(".mlflow.db.new-*"))  # of the killed one, too


def test_a_new_store_starts_from_the_tables_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    dumps = []
    for name in ("made", "copied", "made again"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        store = Store(f"sqlite:///{folder}/mlflow.db", "study")
        places = {one.name: one.artifact_location for one in store.client.search_experiments()}
        assert places == {"Default": f"{folder}/mlruns/0", "study": f"{folder}/mlruns/1"}
        with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
            dumps.append(sorted(map(str, connection.execute("SELECT name, sql FROM sqlite_master"))))
        (kept,) = (tmp_path / "cache" / "empty-stores").iterdir()
        if name == "made":
            whole = kept.read_bytes()
            make = sqlite_file._make_tables
            monkeypatch.setattr(sqlite_file, "_make_tables", None)
        elif name == "copied":
            assert kept.read_bytes() == whole
            kept.write_bytes(whole[: len(whole) // 2])  # damaged
            monkeypatch.setattr(sqlite_file, "_make_tables", make)
    assert dumps[0] == dumps[1] == dumps[2]


def test_a_cache_that_takes_no_file_keeps_no_store_from_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "file"))
    assert Store(f"sqlite:///{tmp_path}/mlflow.db", "study").experiment_id == "1"


def test_a_half_made_store_without_a_run_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mlflow.db"
    half_made(path)
    age(path)
    before = path.read_bytes()
    store = Store(f"sqlite:///{path}", "study")
    assert store.start("x", {}, match={"kind": "run", "run_hash": "h"})
    assert (tmp_path / "mlflow.db.half-made-1").read_bytes() == before
    assert "is incomplete, because the program" in caplog.text


def test_a_store_that_another_program_is_making_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    go_on = half_made(path, torn=False)

    def later() -> None:
        time.sleep(1)
        go_on()

    thread = threading.Thread(target=later)
    thread.start()
    Store(f"sqlite:///{path}", "study")
    thread.join()
    assert not list(tmp_path.glob("*half-made*"))


@pytest.mark.parametrize("torn", [True, False])
def test_a_store_of_another_version_with_runs_is_explained_and_read_but_not_changed(
    tmp_path: Path, torn: bool
) -> None:
    path = tmp_path / "mlflow.db"
    half_made(path, torn=torn)
    put_run(path)
    before = path.read_bytes()
    with pytest.raises(
        TrackingError, match=r"tables of another version.*mlflow db upgrade sqlite:///"
    ) as told:
        Store(f"sqlite:///{path}", "old")
    assert "\n" not in str(told.value)
    assert list(load("old", f"sqlite:///{path}").runs["label"]) == ["fsq"]
    assert path.read_bytes() == before


def test_a_store_of_an_older_mlflow_is_right_after_the_upgrade_that_the_message_names(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    go_on = half_made(path, torn=False)
    put_run(path)
    go_on()  # what `mlflow db upgrade` does
    assert Store(f"sqlite:///{path}", "old").statuses(["h"]) == {"h": ("finished", "")}


def test_an_empty_file_is_no_store_yet(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.touch()
    age(path)
    with pytest.raises(TrackingError, match=r"no tracking store at .*, which is empty"):
        load("study", f"sqlite:///{path}")
    assert Store(f"sqlite:///{path}", "study").experiment_id == "1"


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    before = path.read_bytes()
    with pytest.raises(TrackingError, match=r"not of MLflow\. Remedy: give the store another name"):
        Store(f"sqlite:///{path}", "study")
    assert path.read_bytes() == before


def test_a_store_that_is_deleted_while_it_is_used_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    store = Store(f"sqlite:///{path}", "study")
    run_id = store.start("x", {}, match={"kind": "run", "run_hash": "h"})
    path.unlink()
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(TrackingError, match="was deleted or replaced while it was in use") as told:
            store.log_values(run_id, {"eval/stoi": 0.5})
        assert told.value.gone
    with pytest.raises(TrackingError, match="was deleted or replaced"):
        Store(f"sqlite:///{path}", "study", wait=True)  # as the next worker does
    assert time.monotonic() - began < 20
    assert not path.exists()
    assert Store(f"sqlite:///{path}", "study").start("x", {}, match={"kind": "run", "run_hash": "h"})


def test_the_lock_of_a_folder_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"cannot read or write a file: .*Remedy"):
        Store("sqlite:////proc/nowhere/mlflow.db", "study")


def test_nobody_has_to_wait_for_a_whole_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlflow.db"
    Store(f"sqlite:///{path}", "study")
    monkeypatch.setattr(sqlite_file, "locked", None)  # not even taken
    Store(f"sqlite:///{path}", "study")
