import importlib
import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis import load
from analysis.archive import count_table, score_table
from analysis.archive.exporting import export_studies
from analysis.archive.format import ArchiveError
from analysis.archive.importing import import_archive
from analysis.archive.members import Archive
from analysis.results.study_results import Results
from analysis.tables.comparison import comparison
from analysis.tables.formats import render
from benchmarks.mlflow_server import MlflowServer
from experiments.tracking import artifacts, whole_runs
from experiments.tracking.store import Store, TrackingError

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(scope="module")
def archive(seven: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "new" / "seven.zip"
    assert export_studies(["seven"], path, seven.uri) == 9
    return path


@pytest.fixture(scope="module")
def imported(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a store with what the archive holds."""
    folder = tmp_path_factory.mktemp("imported")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    MlflowClient(uri).create_experiment("seven", artifact_location=(folder / "artifacts").as_uri())
    assert import_archive(archive, uri) == (9, 0)
    return uri


def frames(results: Results) -> list[pd.DataFrame]:
    return [
        frame.drop(columns="run_id")
        for frame in (results.runs, results.utterances, results.histories, results.usage)
    ]


def test_an_imported_study_is_the_study(seven: Any, imported: str) -> None:
    ours, theirs = load("seven", seven.uri), load("seven", imported)
    for own, other in zip(frames(ours), frames(theirs), strict=True):
        pd.testing.assert_frame_equal(own, other, check_exact=True)
    assert ours.settings == theirs.settings
    tables = [render(comparison(results), "csv") for results in (ours, theirs)]
    assert tables[0] == tables[1]


def test_the_bytes_depend_on_the_store_alone(seven: Any, archive: Path, tmp_path: Path) -> None:
    export_studies(["seven"], tmp_path / "again.zip", seven.uri)
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    assert [path.name for path in archive.parent.iterdir()] == ["seven.zip"]


def test_scores_take_less_room_and_stay_the_same(seven: Any, archive: Path, tmp_path: Path) -> None:
    results = load("seven", seven.uri)
    paths = {run: results.needed(run, artifacts.SCORES) for run in results.finished["run_id"]}
    with zipfile.ZipFile(archive) as members:
        content = members.read("scores.parquet")
    scores = score_table.unpacked(content, set(paths) | set(results.references["run_id"]))
    for run, path in paths.items():
        score_table.write(scores[run], tmp_path / "again.parquet")
        again = pd.read_parquet(tmp_path / "again.parquet")
        pd.testing.assert_frame_equal(again, pd.read_parquet(path), check_exact=True)
    assert len(content) < 0.4 * sum(path.stat().st_size for path in paths.values())


def test_counts_take_less_room_and_stay_the_same(seven: Any, archive: Path) -> None:
    results = load("seven", seven.uri)
    runs = {run: results.histograms(run) for run in results.finished["run_id"] if results.histograms(run)}
    assert runs
    with zipfile.ZipFile(archive) as members:
        assert not [name for name in members.namelist() if name.endswith("histograms.npz")]
        found = count_table.unpacked(members.read("counts.parquet"), runs)
    for run, own in runs.items():
        for name, values in zip(found[run], own, strict=True):
            np.testing.assert_array_equal(found[run][name], values)


def test_damaged_counts_are_told_before_an_archive_is_written(store: Any, tmp_path: Path) -> None:
    store.study("miscounted", [store.Run("fsq", histograms=[np.arange(49)])])
    results = load("miscounted", store.uri)
    path = results.needed(results.finished["run_id"].iloc[0], artifacts.HISTOGRAMS)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ArchiveError, match=r"histograms.npz, the code counts of a run, is damaged"):
        export_studies(["miscounted"], tmp_path / "miscounted.zip", store.uri)


def test_a_run_without_scores_goes_along(store: Any, tmp_path: Path) -> None:
    store.study("unscored", [store.Run("fsq"), store.Run("vq")])
    results = load("unscored", store.uri)
    path = results.needed(results.finished["run_id"].iloc[0], artifacts.SCORES)
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    export_studies(["unscored"], tmp_path / "a.zip", store.uri)
    assert import_archive(tmp_path / "a.zip", f"sqlite:///{tmp_path}/new.db") == (3, 0)
    assert len(load("unscored", f"sqlite:///{tmp_path}/new.db").utterances) == len(
        pd.read_parquet(results.needed(results.finished["run_id"].iloc[1], artifacts.SCORES))
    )


def test_damaged_scores_are_told_before_an_archive_is_written(store: Any, tmp_path: Path) -> None:
    store.study("harmed", [store.Run("fsq")])
    results = load("harmed", store.uri)
    path = results.needed(results.finished["run_id"].iloc[0], artifacts.SCORES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match=r"utterances.parquet, the scores of a run, is damaged"):
        export_studies(["harmed"], tmp_path / "harmed.zip", store.uri)
    assert not (tmp_path / "harmed.zip").exists()


def test_what_is_there_is_not_put_in_twice(seven: Any, archive: Path, imported: str) -> None:
    assert import_archive(archive, seven.uri) == (0, 9)  # where it came from
    client = MlflowClient(imported)
    before = load("seven", imported)
    client.delete_tag(
        before.runs["run_id"][0], "codecbench.imported"
    )  # as an import leaves it that is killed
    assert import_archive(archive, imported) == (1, 8)
    after = load("seven", imported)
    assert set(before.runs["run_id"]) - set(after.runs["run_id"]) == {before.runs["run_id"][0]}
    pd.testing.assert_frame_equal(frames(before)[0], frames(after)[0])
    assert len(after.utterances) == len(before.utterances)


def test_large_files_go_along_on_request(seven: Any, archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "latents.zip"
    export_studies(["seven"], path, seven.uri, extras=["latents"], histories=False)
    kinds = [
        {name.rpartition("/")[2] for name in zipfile.ZipFile(each).namelist()} for each in (archive, path)
    ]
    assert kinds[1] - kinds[0] == {"latents.npz"}
    with zipfile.ZipFile(path) as file, file.open("histories.parquet") as histories:
        assert pd.read_parquet(histories).empty
    with pytest.raises(ArchiveError, match="unknown extra 'latent'; there are: latents, snapshots"):
        export_studies(["seven"], path, seven.uri, extras=["latent"])


def test_runs_come_out_of_a_store_that_no_upgrade_helps(tmp_path: Path, seven: Any) -> None:
    """The remedy for tables that were left between two versions: export, and import into a new store."""
    path = tmp_path / "torn.db"
    with (
        closing(sqlite3.connect(seven.folder / "mlflow.db")) as whole,
        closing(sqlite3.connect(path)) as copy,
    ):
        whole.backup(copy)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'cc1f77228345'")
    with pytest.raises(TrackingError, match="codecbench export STUDY"):
        Store(f"sqlite:///{path}", "seven")
    export_studies(["seven"], tmp_path / "seven.zip", f"sqlite:///{path}")
    assert import_archive(tmp_path / "seven.zip", f"sqlite:///{tmp_path}/new.db") == (9, 0)
    old, new = load("seven", seven.uri), load("seven", f"sqlite:///{tmp_path}/new.db")
    assert list(old.runs["label"]) == list(new.runs["label"])
    assert json.dumps(old.utterances["value"].tolist()) == json.dumps(new.utterances["value"].tolist())


def rows_of_all(uri: str) -> Any:
    """What a store has in the tables of runs, without what every import makes anew."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
        name = dict(connection.execute("SELECT run_uuid, value FROM tags WHERE key = 'codecbench.origin'"))
        tables = {}
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            kept = [column for column in columns if column != "artifact_uri"]
            rows = connection.execute(f"SELECT {', '.join(kept)} FROM {table}").fetchall()
            tables[table] = sorted(str([name.get(value, value) for value in row]) for row in rows)
    return tables


def test_runs_are_stored_as_mlflow_itself_stores_them(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert import_archive(archive, "sqlite:///direct.db") == (9, 0)
    monkeypatch.setattr(whole_runs, "_fits", lambda *_: False)
    assert import_archive(archive, "sqlite:///client.db") == (9, 0)
    assert rows_of_all("sqlite:///direct.db") == rows_of_all("sqlite:///client.db")
    for one, other in zip(
        frames(load("seven", "sqlite:///direct.db")),
        frames(load("seven", "sqlite:///client.db")),
        strict=True,
    ):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_an_import_that_fails_leaves_no_part_of_a_run(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = "sqlite:///mlflow.db"
    written = []

    def full(_: Archive, run_id: str, folder: Path) -> None:
        written.append(run_id)
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        (folder / "config.yaml").write_text("x")

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "write_files", full)
        with pytest.raises(TrackingError, match="No space left on device"):
            import_archive(archive, uri)
    assert rows_of_all(uri)["runs"] == []
    assert not [path for path in tmp_path.rglob("*") if path.name == "config.yaml"]
    assert import_archive(archive, uri) == (9, 0)


@pytest.mark.slow
def test_a_server_takes_and_gives_the_same(archive: Path, seven: Any, tmp_path: Path) -> None:
    with MlflowServer(tmp_path / "server") as server:
        assert import_archive(archive, server.uri) == (9, 0)
        assert import_archive(archive, server.uri) == (0, 9)
        ours, theirs = load("seven", seven.uri), load("seven", server.uri)
        for own, other in zip(frames(ours), frames(theirs), strict=True):
            pd.testing.assert_frame_equal(own, other, check_exact=True)
        export_studies(["seven"], tmp_path / "again.zip", server.uri)
    assert len(zipfile.ZipFile(tmp_path / "again.zip").namelist()) == len(zipfile.ZipFile(archive).namelist())


@pytest.mark.slow
def test_published_tables_come_out_of_the_published_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = Path(__file__).parents[3] / "docs"
    monkeypatch.syspath_prepend(str(docs))
    monkeypatch.chdir(tmp_path)  # where artifacts go
    make_results = importlib.import_module("make_results")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for archive in sorted((docs / "results").glob("*.zip")):
        import_archive(archive, uri)
    studies = [one.name for one in MlflowClient(uri).search_experiments() if one.name != "Default"]
    tables = [page.stem for page in (docs / "results").glob("*.md") if "<!-- table -->" in page.read_text()]
    assert sorted(studies) == sorted(tables)
    readme = (docs.parent / "README.md").read_text(encoding="utf-8")
    for study in studies:
        page = (docs / "results" / f"{study}.md").read_text(encoding="utf-8")
        results = load(study, uri)
        assert make_results.table(results) in page
        if results.contrasts:
            assert make_results.contrasts([results]) in page
        if study in make_results.NUMBERS:
            for name, number in make_results.NUMBERS[study](results).items():
                assert f"<!-- {name} -->{number}<!-- {name} ends -->" in readme
    headline = [load(study, uri) for study in make_results.HEADLINE]
    shown = make_results.contrasts(headline, make_results.HEADLINE_BITRATE, make_results.EFFECTS)
    assert shown in readme


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("manifest:/home/me/corpus/clips.csv", "manifest:clips.csv"),
        (
            '{"corpus": "webdataset:/data/shards-{000..009}.tar"}',
            '{"corpus": "webdataset:shards-{000..009}.tar"}',
        ),
        ("webdataset:https://host/a/b.tar", "webdataset:https://host/a/b.tar"),
        ("manifest:corpus/clips.csv", "manifest:corpus/clips.csv"),
        ("1/2", "1/2"),
    ],
)
def test_folders_stay_at_home(store: Any, tmp_path: Path, given: str, written: str) -> None:
    study = f"folders {given.replace('/', ' ')}"
    store.study(study, [store.Run("fsq", params={"data.corpus": given})])
    export_studies([study], tmp_path / "a.zip", store.uri)
    listing = json.loads(zipfile.ZipFile(tmp_path / "a.zip").read("archive.json"))
    assert [run["params"]["data.corpus"] for run in listing["runs"] if run["params"]] == [written]


def rewritten(archive: Path, path: Path, **changes: Any) -> Path:
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        listing = json.loads(old.read("archive.json")) | changes
        new.writestr("archive.json", json.dumps(listing))
        for name in ("histories.parquet", "scores.parquet", "counts.parquet", "texts.json"):
            new.writestr(name, old.read(name))
    return path


def test_what_is_no_archive_is_refused(archive: Path, imported: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"no archive at .*missing\.zip"):
        import_archive(tmp_path / "missing.zip", imported)
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ArchiveError, match=r"text\.zip is not of `codecbench export`"):
        import_archive(tmp_path / "text.zip", imported)
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(ArchiveError, match=r"cut\.zip is not of `codecbench export`, or damaged"):
        import_archive(tmp_path / "cut.zip", imported)
    newer = rewritten(archive, tmp_path / "newer.zip", format=3, codecbench="9.0")
    with pytest.raises(ArchiveError, match=r"format 3, written by codecbench 9\.0; .*Install that version"):
        import_archive(newer, imported)
    listing = json.loads(zipfile.ZipFile(archive).read("archive.json"))
    listing["runs"][0]["id"] = "../../etc"
    outside = rewritten(archive, tmp_path / "outside.zip", runs=listing["runs"])
    with pytest.raises(ArchiveError, match=r"runs\[0\].id: '.*etc' is not the id of a run"):
        import_archive(outside, imported)
