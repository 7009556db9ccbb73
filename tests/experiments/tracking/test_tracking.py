import json
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import pytest
from mlflow import MlflowClient

from experiments.common.flat_keys import flatten
from experiments.tracking.addresses import absolute
from experiments.tracking.journal import MetricsJournal
from experiments.tracking.schema import KIND_RUN, rows, rows_of
from experiments.tracking.store import Store, TrackingError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Store(f"sqlite:///{folder}/mlflow.db", "study", "why?")


def history(store: Store, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in store.client.get_metric_history(run_id, key)]


def test_a_run_is_found_again_by_its_hash(store: Store) -> None:
    match = {"kind": KIND_RUN, "run_hash": "h1"}
    first = store.start("vq", {"codecbench.status": "running"}, match=match)
    store.pause(first)
    assert store.start("vq", {"codecbench.status": "running"}, match=match) == first
    store.set_status(first, "finished")
    assert store.statuses(["h1"]) == {"h1": ("finished", "")}
    other = store.start("vq", {}, match={"kind": KIND_RUN, "run_hash": "h2"})
    store.set_status(other, "diverged", "loss is nan")
    assert store.statuses(["h1", "h2", "h3"])["h2"] == ("diverged", "loss is nan")
    assert store.client.get_run(other).info.status == "FAILED"


def test_a_run_is_found_from_any_study_until_it_is_superseded(store: Store) -> None:
    match = {"kind": KIND_RUN, "run_hash": "shared"}
    tags = {"codecbench.label": "mine", "codecbench.status": "running"}
    first = store.start("vq", tags, match=match)
    other = Store(store.uri, "another")
    assert other.start("vq", {**tags, "codecbench.label": "theirs"}, match=match) == first
    assert store.client.get_run(first).data.tags["codecbench.label"] == "mine"
    store.set_status(first, "finished")
    many = ["shared", *(f"unknown{number}" for number in range(20))]
    assert other.statuses(many) == store.statuses(many) == {"shared": ("finished", "")}
    store.set_tags(first, {"codecbench.superseded": "true"})
    assert other.statuses(many) == {}
    second = other.start("vq", tags, match=match)
    assert second != first
    assert store.statuses(["shared"]) == {"shared": ("running", "")}


def test_a_study_lists_any_number_of_runs(store: Store) -> None:
    labels = {f"{number:016x}": "x" * 60 for number in range(600)}
    parent = store.start("study", rows(labels), match={"kind": "study", "study_hash": "large"})
    assert rows_of(store.client.get_run(parent)) == labels


def test_final_values_are_logged_once(store: Store) -> None:
    run_id = store.start("x", {}, match={"kind": KIND_RUN, "run_hash": "values"})
    store.log_values(run_id, {"eval/pesq": 1.5})
    store.log_values(run_id, {"eval/pesq": 1.6, "eval/stoi": 0.9})
    assert history(store, run_id, "eval/pesq") == [(0, 1.5)]
    assert history(store, run_id, "eval/stoi") == [(0, 0.9)]


def test_a_killed_run_logs_nothing_twice_and_loses_nothing(store: Store, tmp_path: Path) -> None:
    run_id = store.start("x", {}, match={"kind": KIND_RUN, "run_hash": "journal"})
    path = tmp_path / "metrics.jsonl"
    first = MetricsJournal(path, store, run_id)
    first.begin(0)
    for step in (1, 2, 3):
        first.add(step, {"train/loss": 1.0 / step})
        if step == 2:
            first.write()
    # Killed here, at a state of step 2; then a write of step 3 that the kill cut short.
    with path.open("a") as file:
        file.write('{"step": 3, "ti')
    second = MetricsJournal(path, store, run_id)
    second.begin(2)
    for step in (3, 4):
        second.add(step, {"train/loss": 1.0 / step})
    second.finish()
    assert history(store, run_id, "train/loss") == [(step, 1.0 / step) for step in (1, 2, 3, 4)]
    # Killed between writing and saving: the state is older than what was sent.
    third = MetricsJournal(path, store, run_id)
    third.begin(3)
    third.add(4, {"train/loss": 0.25})
    third.add(5, {"train/loss": 0.2})
    third.finish()
    assert [step for step, _ in history(store, run_id, "train/loss")] == [1, 2, 3, 4, 5]


def test_metrics_and_warnings_wait_for_a_store_that_is_away(store: Store, tmp_path: Path) -> None:
    run_id = store.start("x", {}, match={"kind": KIND_RUN, "run_hash": "away"})
    path = tmp_path / "metrics.jsonl"
    journal = MetricsJournal(path, store, run_id, retry_seconds=0.1)
    journal.begin(0)
    journal.store = away = copy(store)  # a server that was there when the run began
    away.uri, away.client = "http://127.0.0.1:9", MlflowClient("http://127.0.0.1:9")
    journal.add(1, {"train/loss": 0.5})
    journal.warn(1, "codebook_collapse", "all is one")
    journal.write()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 1]
    with pytest.raises(TrackingError, match=r"has not answered for 0 s.*Start the same command again"):
        journal.finish(patience=0)
    journal.store = store
    journal.finish()
    assert history(store, run_id, "train/loss") == [(1, 0.5)]
    tags = store.client.get_run(run_id).data.tags
    assert tags["codecbench.warning.codebook_collapse"] == "step 1: all is one"


def test_a_store_that_is_away_at_the_start_is_an_error() -> None:
    with pytest.raises(TrackingError, match=r"127.0.0.1:9 does not answer.*Remedy: start the server"):
        Store("http://127.0.0.1:9", "study")


def test_a_deleted_experiment_says_how_to_restore_it(store: Store) -> None:
    gone = Store(store.uri, "gone")
    gone.client.delete_experiment(gone.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        Store(store.uri, "gone")


def test_configurations_become_dotted_parameters() -> None:
    assert flatten({"a": {"b": [1, 2], "c": {"d": "x"}}, "e": None}) == {
        "a.b": "[1, 2]",
        "a.c.d": "x",
        "e": "null",
    }


def test_parameters_that_are_there_stay(store: Store) -> None:
    run_id = store.start("moved", {}, match={"kind": "study", "study_hash": "moved"})
    store.log_params(run_id, {"data": {"corpus": "manifest:/old/corpus.csv"}, "bits": 12})
    store.log_params(run_id, {"data": {"corpus": "manifest:/new/corpus.csv"}, "bits": 12, "seeds": [0]})
    logged = store.client.get_run(run_id).data.params
    assert logged == {"data.corpus": "manifest:/old/corpus.csv", "bits": "12", "seeds": "[0]"}


def test_what_a_store_refuses_is_not_told_as_its_absence(store: Store) -> None:
    with pytest.raises(TrackingError, match=r"refused: .*nothing that was trained is lost"):
        store.set_tags("no-such-run", {"a": "b"})


def test_a_relative_address_means_the_folder_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow keeps the connections of an address, and would go on with the first folder's file."""
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        store = Store("sqlite:///mlflow.db", folder)
        assert [each.name for each in store.experiments()] == ["Default", folder]
    assert absolute("sqlite:///mlflow.db?timeout=9") == f"sqlite:///{tmp_path}/three/mlflow.db?timeout=9"
    assert absolute("sqlite:////srv/mlflow.db") == "sqlite:////srv/mlflow.db"
    assert absolute("http://127.0.0.1:5000") == "http://127.0.0.1:5000"
