"""What is to do of a study, as the tracking store knows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.execution import study_runner as runner
from experiments.execution.jobs import Job
from experiments.execution.tracked_run import open_run
from experiments.studies import study
from experiments.studies.runs import CorpusIdentity, Run, expand
from experiments.studies.study import StudyError
from experiments.tracking import leases
from experiments.tracking.leases import Leases
from experiments.tracking.schema import DIVERGED, FINISHED, KIND_WARM_START, RUNNING
from experiments.tracking.store import Store

CORPUS = CorpusIdentity(spec="demo", name="demo", content_hash="0" * 16, synthetic=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("runner")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Store(f"sqlite:///{folder}/mlflow.db", "study")


def runs_of(name: str, seed: int) -> list[Run]:
    train = {"warm_start": {"steps": 5}}
    values = {"name": name, "quantizers": ["fsq", "vq"], "bits": 9, "seeds": [seed], "train": train}
    return expand(study.check(values, name), CORPUS)


def end(store: Store, job: Job, status: str, reason: str = "") -> str:
    run_id = open_run(store, job, "parent")
    store.set_status(run_id, status, reason)
    return run_id


def test_what_broke_is_done_again_on_request_and_so_is_its_warm_start(store: Store) -> None:
    fsq, vq = runs_of("study", 0)
    start = fsq.warm_start()
    assert start is not None
    end(store, Job(run=start, warm_start=True), DIVERGED, "too hot")
    end(store, Job(run=fsq), DIVERGED, "in the warm start: too hot")
    assert runner.pending([fsq, vq], store, retry=False) == (
        [vq],
        set(),
        {fsq.hash: (DIVERGED, "in the warm start: too hot")},
    )
    assert runner.pending([fsq, vq], store, retry=True) == ([fsq, vq], set(), {})
    assert store.statuses([fsq.hash])[fsq.hash][0] == RUNNING
    assert store.statuses([start.training_hash], KIND_WARM_START)[start.training_hash][0] == RUNNING


def test_force_puts_finished_runs_aside_and_deletes_their_weights(store: Store, tmp_path: Path) -> None:
    fsq, vq = runs_of("forced", 1)
    old = end(store, Job(run=fsq), FINISHED)
    (tmp_path / fsq.training_hash).mkdir()
    (tmp_path / vq.training_hash).mkdir()
    assert runner.pending([fsq, vq], store, retry=False)[1] == {fsq.hash}
    held = Leases(store, leases.seconds()).acquire(Job(run=vq).lease)
    assert held is not None
    with held:
        runner.supersede([fsq, vq], store, tmp_path)
    assert runner.pending([fsq, vq], store, retry=False)[0] == [fsq, vq]
    assert {path.name for path in tmp_path.iterdir()} == {vq.training_hash}  # under way: not to be lost
    assert open_run(store, Job(run=fsq), "parent") != old
    assert store.client.get_run(old).info.status == "FINISHED"


def test_force_deletes_weights_that_another_store_knows(store: Store, tmp_path: Path) -> None:
    """Otherwise a first `run --force` into a new store would score weights of earlier code."""
    fsq, vq = runs_of("elsewhere", 3)
    start = fsq.warm_start()
    assert start is not None
    for run in (fsq, start):
        (tmp_path / run.training_hash).mkdir()
    runner.supersede([fsq, vq], store, tmp_path, warm_starts=False)
    assert {path.name for path in tmp_path.iterdir()} == {start.training_hash}
    runner.supersede([fsq, vq], store, tmp_path)
    assert not list(tmp_path.iterdir())


def test_force_refuses_weights_that_cannot_be_deleted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsq, _ = runs_of("kept", 4)
    (tmp_path / fsq.training_hash).mkdir()
    monkeypatch.setattr(runner.shutil, "rmtree", lambda folder, ignore_errors: None)  # as without permission
    with pytest.raises(StudyError, match="--force cannot delete"):
        runner.supersede([fsq], store, tmp_path)


def test_a_run_that_stands_twice_is_done_once(store: Store) -> None:
    fsq, _ = runs_of("twice", 2)
    assert runner.pending([fsq, fsq], store, retry=False)[0] == [fsq]
