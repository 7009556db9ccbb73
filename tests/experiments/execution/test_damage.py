"""Damage and kills between two sittings: what can be repaired is repaired, the rest is done again, once."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.common import tensor_files
from experiments.common.run_folder import HISTORY, STATE, SUMMARY, WEIGHTS
from experiments.execution import study_runner, worker
from experiments.execution.jobs import STOPPED, Job, Outcome, Settings, Update
from experiments.execution.tracked_run import open_run
from experiments.studies.runs import Run
from experiments.tracking.models import logged_model
from experiments.tracking.schema import FINISHED, KIND_WARM_START, status_of
from experiments.tracking.store import Store
from experiments.training import distributed, trained_codec


class InThisProcess:
    """An executor whose only worker is this process."""

    def __init__(self, link: Any) -> None:
        self.link = link

    @contextmanager
    def open(self, settings: Settings) -> Iterator[Any]:
        executor, jobs = self, []

        class Pool:
            def submit(self, job: Job) -> None:
                jobs.append(job)

            def wait(self, show: Callable[[Update], None]) -> list[tuple[Job, Outcome]]:
                job = jobs.pop(0)
                return [(job, worker.perform(job, settings, executor.link))]

        yield Pool()


def execute(runs: Sequence[Run], settings: Settings, link: Any) -> list[str]:
    """Do the runs, and the warm starts before them; their outcomes."""
    outcomes = study_runner.execute(runs, settings, InThisProcess(link), show=lambda update: None)
    assert all(outcome.logged for outcome in outcomes.values())
    return [outcomes[run.hash].status for run in runs]


def seeded(run: Run, seed: int) -> Run:
    """A run of its own, so that tests share the store and nothing else."""
    return dataclasses.replace(run, seed=seed)


def start_of(run: Run) -> Run:
    start = run.warm_start()
    assert start is not None
    return start


def points(store: Store, run_hash: str) -> dict[str, list[int]]:
    """Steps of each metric of the only run of this identity, but for those of the machine."""
    (logged,) = store.search(run_hash=run_hash)
    client, run_id = store.client, logged.info.run_id
    return {
        key: [point.step for point in client.get_metric_history(run_id, key)]
        for key in logged.data.metrics
        if not key.startswith("system/")
    }


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def model_files(store: Store, run_hash: str) -> Path:
    """The folder of the model that a run put out."""
    (logged,) = store.search(run_hash=run_hash)
    (model_id,) = {output.model_id for output in logged.outputs.model_outputs}
    model = store.client.get_logged_model(model_id)
    assert model.status == "READY"
    return Path(model.artifact_location.removeprefix("file://"))


def test_a_warm_start_that_was_killed_before_its_end_comes_to_it(
    tiny: Run, settings: Settings, store: Store, link: Any
) -> None:
    """Its weights were on disk and its run was not finished: B2 of a review."""
    run = seeded(tiny, 1)
    start = start_of(run)
    job = Job(run=start, warm_start=True)
    open_run(store, job, "parent")
    fabric = distributed.single(torch.device("cpu"))
    trained_codec.obtain(start, settings.directory, fabric=fabric)
    assert execute([run], settings, link) == [FINISHED]
    (logged,) = store.search(kind=KIND_WARM_START, run_hash=job.key)
    assert (status_of(logged)[0], logged.info.status) == (FINISHED, "FINISHED")
    elsewhere = dataclasses.replace(settings, directory=settings.directory.parent / "elsewhere")
    assert execute([dataclasses.replace(run, quantizer="none", quantizer_options={})], elsewhere, link) == [
        FINISHED
    ]
    assert not [u for u in link.updates if u.key == job.key and u.stage == "training"]  # nor there


@pytest.mark.parametrize("damaged", [WEIGHTS, SUMMARY])
@pytest.mark.parametrize("copy", ["whole", "damaged", "gone"])
def test_a_damaged_warm_start_comes_from_the_store_or_is_trained_again(
    copy: str, damaged: str, tiny: Run, settings: Settings, store: Store, link: Any
) -> None:
    run = seeded(tiny, 10 + 10 * ["whole", "damaged", "gone"].index(copy) + [WEIGHTS, SUMMARY].index(damaged))
    start = start_of(run)
    key, folder = start.training_hash, settings.directory / start.training_hash
    none = dataclasses.replace(run, quantizer="none", quantizer_options={})
    assert execute([none], settings, link) == [FINISHED]
    before = {name: value.clone() for name, value in tensor_files.read(folder / WEIGHTS)[0].items()}
    logged = points(store, key)
    assert logged["train/loss"] == [1, 2]
    if damaged == WEIGHTS:
        flip(folder / WEIGHTS)
    else:
        (folder / SUMMARY).write_text('{"steps": 2, "seco')
    if copy == "damaged":
        flip(model_files(store, key) / WEIGHTS)
    elif copy == "gone":
        (model_files(store, key) / WEIGHTS).unlink()
    link.updates.clear()
    assert execute([run], settings, link) == [FINISHED]
    after = tensor_files.read(folder / WEIGHTS)[0]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert points(store, key) == logged
    trained = any(update.key == key and update.stage == "training" for update in link.updates)
    assert trained == (copy != "whole")
    (warning,) = [text for text in link.warnings if str(folder) in text]
    assert warning.endswith("it is trained again" if trained else "tracking store takes its place")
    assert tensor_files.read(model_files(store, key) / WEIGHTS)


def test_damaged_weights_of_a_run_are_trained_again(tiny: Run, settings: Settings, link: Any) -> None:
    run = dataclasses.replace(seeded(tiny, 40), train=tiny.train.model_copy(update={"warm_start": None}))
    fabric, folder = distributed.single(torch.device("cpu")), settings.directory / run.training_hash
    whole, trained, _ = trained_codec.obtain(run, settings.directory, fabric=fabric)
    flip(folder / WEIGHTS)
    again, trained_again, _ = trained_codec.obtain(run, settings.directory, fabric=fabric)
    assert trained_again.seconds != trained.seconds
    assert all(torch.equal(v, again.state_dict()[name]) for name, v in whole.state_dict().items())
    for text in ('{"steps": 4}', "[]", "\x80", '{"unknown": 1}'):
        (folder / SUMMARY).write_text(text)
        assert trained_codec.obtain(run, settings.directory, fabric=fabric)[1].steps == 4
        assert '"precision"' in (folder / SUMMARY).read_text()


GARBAGE = {
    "no UTF-8": b'{"step": 1, "time": 1, "values": {"\xff": 1}}\n',
    "no JSON": b"\0\0\0\0\n",
    "no record": b"[1, 2]\n7\nnull\n",
    "a wrong type": b'{"step": "1", "time": 1, "values": {}}\n{"step": 1, "time": 1, "values": [1]}\n',
    "missing keys": b'{"step": 1}\n{}\n',
}


@pytest.mark.parametrize("kind", [*GARBAGE, "cut short"])
def test_a_damaged_journal_is_cut_and_the_run_goes_on(
    kind: str, tiny: Run, settings: Settings, store: Store, link: Any
) -> None:
    number = [*GARBAGE, "cut short"].index(kind)
    run = dataclasses.replace(
        seeded(tiny, 50 + number), train=tiny.train.model_copy(update={"warm_start": None})
    )
    link.hear = lambda update: setattr(link, "stop", update.stage == "training" and update.done == 2)
    job = Job(run=run)
    assert worker.perform(job, settings, link).status == STOPPED
    link.hear, link.stop = lambda update: None, False
    path = settings.directory / run.training_hash / HISTORY
    lines = path.read_bytes()
    first, _, rest = lines.partition(b"\n")
    path.write_bytes(lines[:-9] if kind == "cut short" else first + b"\n" + GARBAGE[kind] + rest)
    assert worker.perform(job, settings, link) == Outcome(FINISHED)
    assert points(store, run.hash)["train/loss"] == [1, 2, 3, 4]
    (logged,) = store.search(run_hash=run.hash)
    warning = logged.data.tags.get("codecbench.warning.journal", "")
    assert ("left out" in warning) == (kind != "cut short")


def test_a_model_that_a_kill_left_unfinished_is_finished(
    tiny: Run, settings: Settings, store: Store, link: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(seeded(tiny, 60), train=tiny.train.model_copy(update={"warm_start": None}))
    client = type(store.client)

    for name in ("log_model_artifacts", "log_outputs", "finalize_logged_model"):
        with monkeypatch.context() as patch:
            patch.setattr(client, name, lambda *_: (_ for _ in ()).throw(SystemExit("killed")))
            with pytest.raises(SystemExit):
                worker.perform(Job(run=run), settings, link)
    (logged,) = store.search(run_hash=run.hash)
    for _ in range(2):  # as an earlier version left them
        store.client.create_logged_model(
            store.experiment_id, "stray", source_run_id=logged.info.run_id, model_type=logged_model.MODEL_TYPE
        )
    assert worker.perform(Job(run=run), settings, link).status == FINISHED
    (model,) = store.client.search_logged_models(
        [store.experiment_id], f"source_run_id = '{logged.info.run_id}'"
    )
    assert model.status == "READY"
    assert (model_files(store, run.hash) / WEIGHTS).exists()


def test_what_a_killed_writer_left_is_removed(tiny: Run, settings: Settings, link: Any) -> None:
    run = dataclasses.replace(seeded(tiny, 70), train=tiny.train.model_copy(update={"warm_start": None}))
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    folder = settings.directory / run.training_hash
    folder.mkdir(parents=True)
    stale = folder / f".{STATE}.{ended.pid}-01234567.partial"
    mine = folder / f".{STATE}.{os.getpid()}-01234567.partial"
    stale.touch()
    mine.touch()
    assert worker.perform(Job(run=run), settings, link).status == FINISHED
    assert not stale.exists()
    assert mine.exists()
