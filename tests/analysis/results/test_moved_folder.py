"""Artifacts that are not where the store says: its folder was moved, or they were deleted."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from analysis import ResultsError, load
from analysis.archive.exporting import export_studies
from analysis.archive.importing import import_archive
from analysis.reports.report import write_report
from analysis.tables.comparison import comparison
from analysis.tables.formats import render
from experiments.tracking.schema import Tag
from experiments.tracking.store import Store
from tests.analysis.archive.hostile import members_of
from tests.analysis.conftest import FakeRun
from tests.analysis.conftest import Store as Written

RUNS = [
    FakeRun(label, seed=seed, effect=effect, bits=12.0, audio=0.01)
    for label, effect in (("fsq", 0.0), ("vq", -0.5))
    for seed in (0, 1)
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study."""
    folder = tmp_path_factory.mktemp("template") / "a"
    folder.mkdir()
    Written(folder).study("two", RUNS)
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """The same under another name: addresses in the store lead to a folder that is gone."""
    moved = tmp_path / "b"
    shutil.copytree(template, moved)
    with closing(sqlite3.connect(moved / "mlflow.db")) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, '/gone/a')", (str(template),)
            )
    return moved


def uri(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def text(folder: Path) -> str:
    return render(comparison(load("two", uri(folder)), ["pesq", "stoi", "scored"]), "markdown")


def test_table_and_export_of_a_moved_folder_are_as_before(
    template: Path, folder: Path, tmp_path: Path
) -> None:
    assert "±" in text(folder)
    assert text(folder) == text(template)
    archives = []
    for place, name in ((template, "before.zip"), (folder, "after.zip")):
        export_studies(["two"], tmp_path / name, uri(place), extras=["audio"])
        archives.append((tmp_path / name).read_bytes())
    assert archives[0] == archives[1]


@pytest.mark.slow
def test_the_report_of_a_moved_folder_is_as_before(template: Path, folder: Path, tmp_path: Path) -> None:
    pages = []
    for place, name in ((template, "before"), (folder, "after")):
        write_report(load("two", uri(place)), tmp_path / name, processes=1)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        pages.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert any(path.suffix == ".flac" for path in pages[0])
    assert pages[0] == pages[1]


@pytest.mark.parametrize("path", ["utterances.parquet", "config.yaml", "usage.json"])
def test_what_is_lost_is_named_with_its_run_and_where_it_was_looked_for(
    folder: Path, tmp_path: Path, path: str
) -> None:
    results = load("two", uri(folder))
    run_id = results.runs["run_id"].iloc[0]
    place = folder / "artifacts" / "two" / run_id / "artifacts"
    (place / path).rename(tmp_path / path)
    told = rf"'fsq', seed 0, run {run_id}, of study 'two' finished, but its {path} is gone: it is not in "
    told += rf"file:///gone/a/artifacts/two/{run_id}/artifacts, nor in {place}\. Remedy: put the folder"
    with pytest.raises(ResultsError, match=told):
        export_studies(["two"], tmp_path / "part.zip", uri(folder))
    assert not (tmp_path / "part.zip").exists()
    if path == "utterances.parquet":
        with pytest.raises(ResultsError, match=told):
            text(folder)
    (tmp_path / path).rename(place / path)
    export_studies(["two"], tmp_path / "whole.zip", uri(folder))


def test_scores_that_are_damaged_are_no_traceback(folder: Path) -> None:
    results = load("two", uri(folder))
    path = folder / "artifacts" / "two" / results.runs["run_id"].iloc[0] / "artifacts" / "utterances.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        ResultsError, match=r"utterances\.parquet, the scores of run .*, is damaged: .*Remedy"
    ):
        text(folder)


def test_who_writes_to_a_moved_store_writes_beside_it(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(uri(folder), "two")
    assert "are now beside the store" in caplog.text
    run_id = store.start("new", {}, match={"kind": "run", "run_hash": "new"})
    (tmp_path / "file.txt").write_text("x")
    store.log_file(run_id, tmp_path / "file.txt", "")
    assert (folder / "artifacts" / "two" / run_id / "artifacts" / "file.txt").exists()
    assert not Path("/gone").exists()
    old = load("two", uri(folder)).runs["run_id"].iloc[0]
    assert store.client.list_artifacts(old)  # as MLflow's UI lists them
    caplog.clear()
    Store(uri(folder), "two")
    assert not caplog.text


def test_addresses_stay_while_somebody_works_with_the_store(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute("INSERT INTO experiment_tags VALUES ('codecbench.lease.x.1', '{}', 1)")
        before = connection.execute("SELECT artifact_uri FROM runs").fetchall()
    Store(uri(folder), "two")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        assert connection.execute("SELECT artifact_uri FROM runs").fetchall() == before


def test_a_deleted_study_says_how_it_comes_back(folder: Path, tmp_path: Path) -> None:
    store = Store(uri(folder), "two")
    store.client.delete_experiment(store.experiment_id)
    told = rf"'two' is deleted in .*mlflow experiments restore --experiment-id {store.experiment_id}`"
    for read in (lambda: text(folder), lambda: export_studies(["two"], tmp_path / "x.zip", uri(folder))):
        with pytest.raises(ResultsError, match=told):
            read()
    store.client.restore_experiment(store.experiment_id)
    assert "fsq" in text(folder)


def test_runs_out_of_an_archive_are_named_in_a_study_of_ones_own(seven: Any, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    export_studies(["seven"], tmp_path / "seven.zip", seven.uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        import_archive(tmp_path / "seven.zip", address)
        own = Store(address, "own")
    parent = own.start("own", {}, match={"kind": "study", "study_hash": "x"})
    own.set_tags(parent, {"codecbench.rows.0": json.dumps({"fsq-0-16.84": "fsq", "vq-0-17.0": "vq"})})
    (note,) = [line for line in comparison(load("own", address)).notes if "archive" in line]
    assert note == "! imported from an archive, and not trained or scored in this store: fsq, vq"
    assert not [line for line in comparison(load("seven", address)).notes if "archive" in line]
    # The same study, once `codecbench run` took the archive's runs for its own.
    copy = Store(address, "seven")
    (parent,) = copy.search(kind="study")
    copy.set_tags(parent.info.run_id, {Tag.STARTED: "true"})
    (note,) = [line for line in comparison(load("seven", address)).notes if "archive" in line]
    assert "fsq" in note
    assert "q2d2-hex" in note
    export_studies(["seven"], tmp_path / "again.zip", address)  # for another store it is as it was
    assert Tag.STARTED.encode() not in members_of(tmp_path / "again.zip")["archive.json"]


def test_captions_explain_what_there_is(store: Any) -> None:
    store.study("alone", [store.Run("fsq", seed=seed) for seed in (0, 1)])
    lines = " ".join(comparison(load("alone", store.uri)).caption)
    assert "± half of the 95 % interval over seeds" in lines
    assert "Bold" not in lines  # nothing to be better than
    lines = " ".join(comparison(load("alone", store.uri), ["bitrate"]).caption)
    assert "±" not in lines
    assert "Means of seeds." in lines
