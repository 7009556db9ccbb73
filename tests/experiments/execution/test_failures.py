"""Ends of jobs: errors become a status with a reason, machine trouble stops, a kill is told as a kill."""

import dataclasses
import errno
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from experiments.common.run_folder import FolderError, check_folder
from experiments.execution import worker
from experiments.execution.executors.local import Local
from experiments.execution.jobs import ELSEWHERE, LOST, STOPPED, Job, Outcome, Settings, Update
from experiments.execution.outcomes import Pruned, outcome_of, reason_of
from experiments.studies.runs import CorpusIdentity, Run
from experiments.tracking.schema import DIVERGED, FAILED, FINISHED, PRUNED, status_of
from experiments.tracking.store import Store, TrackingError
from experiments.training.checkpoint import CheckpointError
from experiments.training.observer import Diverged, Interrupted
from quantizers import NonFiniteError


def changed(run: Run, **train: Any) -> Run:
    """A run that no study file can ask for."""
    return dataclasses.replace(run, train=run.train.model_copy(update=train))


Identify = Callable[[str], CorpusIdentity]


@pytest.fixture(scope="module")
def run(tiny: Run) -> Run:
    return changed(tiny, warm_start=None)


def without(split: str, speech: Path, folder: Path) -> str:
    """The corpus, but for usable audio in one split."""
    soundfile.write(folder / "short.wav", np.zeros(800), 24_000)
    lines = speech.read_text().splitlines()
    named = [line for line in lines[1:] if not line.endswith(split)]
    rows = [lines[0], *(f"{speech.parent}/{line}" for line in named), f"short.wav,nobody,{split}"]
    (folder / "manifest.csv").write_text("\n".join(rows))
    return f"manifest:{folder}/manifest.csv"


def broken(name: str, run: Run, identify: Identify, speech: Path, folder: Path) -> Run:
    if name == "crop of no samples":
        return changed(run, crop_seconds=1e-5)
    if name == "crop without end":
        return changed(run, crop_seconds=float("inf"))
    if name == "crop of a lifetime":
        return changed(run, crop_seconds=1e9)
    if name == "seed beyond 64 bits":
        return dataclasses.replace(run, seed=2**70)
    if name == "another corpus":
        return dataclasses.replace(run, corpus=dataclasses.replace(run.corpus, content_hash="0" * 16))
    split = {"no train clips": "train", "no validation clips": "val", "no test clips": "test"}[name]
    return dataclasses.replace(run, corpus=identify(without(split, speech, folder)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("crop of no samples", "need samples"),
        ("crop without end", "OverflowError: cannot convert float infinity to integer"),
        ("crop of a lifetime", ""),
        ("seed beyond 64 bits", "Overflow"),
        ("another corpus", "changed while the study ran"),
        ("no train clips", "no usable train clips"),
        ("no validation clips", "no usable validation clips"),
        ("no test clips", "no usable test clips"),
    ],
)
def test_an_error_before_the_first_step_is_a_failure_with_its_reason(
    name: str,
    words: str,
    run: Run,
    identify: Identify,
    speech: Path,
    settings: Settings,
    store: Store,
    link: Any,
    tmp_path: Path,
) -> None:
    job = Job(run=broken(name, run, identify, speech, tmp_path))
    outcome = worker.perform(job, settings, link)
    assert outcome.status == FAILED
    assert outcome.reason
    assert words in outcome.reason
    assert outcome.logged
    assert [u.stage for u in link.updates if u.stage.startswith("failed")] == [f"failed: {outcome.reason}"]
    (logged,) = store.search(run_hash=job.key)
    assert status_of(logged) == (FAILED, outcome.reason[:500])
    assert logged.info.status == "FAILED"
    assert "Traceback" in store.fetch_file(logged.info.run_id, "error.txt", tmp_path).read_text()
    again = worker.perform(job, settings, link)
    assert again == Outcome(FAILED, outcome.reason[:500], reused=True)


def test_a_disk_that_is_full_stops_a_run_and_it_goes_on(
    run: Run, settings: Settings, store: Store, link: Any
) -> None:
    resource = pytest.importorskip("resource", reason="needs limits on file sizes")
    job = Job(run=dataclasses.replace(run, seed=5))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(update: Update) -> None:
        """Leave no room once the training has begun, and make some when it has been told."""
        if update.stage == "training":
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
        elif update.stage.startswith("stopped"):
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    link.hear = fill
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        outcome = worker.perform(job, settings, link)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert outcome.status == STOPPED
    assert outcome.reason.count("start the same command again") == 1
    assert outcome.reason.count("Remedy: ") == 1
    (logged,) = store.search(run_hash=job.key)
    assert logged.info.status == "KILLED"
    link.hear = lambda update: None
    assert worker.perform(job, settings, link).status == FINISHED


def test_a_folder_that_takes_nothing_is_told_before_any_work(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "runs")
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(FolderError, match=r"cannot be written.*Remedy: give another folder with --runs"):
            check_folder(wrong)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Interrupted("step 3"), STOPPED),
        (Pruned("too high"), PRUNED),
        (Diverged("nan"), DIVERGED),
        (NonFiniteError("features are NaN"), DIVERGED),
        (TrackingError("away"), STOPPED),
        (CheckpointError("damaged"), STOPPED),
        (OSError(errno.ENOSPC, "No space left on device", "f"), STOPPED),
        (OSError(errno.EROFS, "Read-only file system", "f"), STOPPED),
        (RuntimeError("cannot write: No space left on device (os error 28)"), STOPPED),
        (FileNotFoundError(errno.ENOENT, "No such file", "f"), FAILED),
        (KeyError("progress"), FAILED),
        (MemoryError(), FAILED),
    ],
)
def test_each_error_has_a_status(error: Exception, status: str) -> None:
    assert outcome_of(error).status == status
    assert outcome_of(error, lease_lost=True).status == ELSEWHERE


def test_out_of_gpu_memory_says_which_keys_to_change() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    outcome = outcome_of(error)
    assert outcome.status == FAILED
    for key in ("train.accumulate", "train.batch_size", "train.crop_seconds", "--runs-per-device"):
        assert key in outcome.reason
    assert "Tried to allocate 2.00 GiB" in outcome.reason


def test_reasons_say_something() -> None:
    def raised(error: Exception) -> str:
        try:
            raise error
        except Exception as caught:
            return reason_of(caught)

    assert raised(RuntimeError("the corpus\n changed")) == "the corpus changed"
    assert raised(KeyError("progress")).startswith("KeyError: 'progress' (test_failures.py, line ")
    assert raised(AssertionError()).startswith("AssertionError (test_failures.py, line ")
    assert raised(ValueError()).startswith("ValueError (")


class _Unreadable:
    """Cannot be read by another process."""

    key = "unreadable"

    def __reduce__(self) -> Any:
        return (_raise, ())


def _raise() -> None:
    raise ImportError("no such thing here")


def end_of(pool: Any, kill: int | None = None) -> Outcome:
    updates: list[Update] = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for _, outcome in pool.wait(updates.append):
            return outcome
        if kill and any(update.stage == "training" for update in updates):
            os.kill(pool._processes[0].process.pid, kill)
            kill = None
    raise AssertionError("no end")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told_from_one_that_failed(
    run: Run, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    long = changed(run, steps=100_000)
    with Local(workers=1).open(settings) as pool:
        pool.submit(Job(run=long))
        killed = end_of(pool, signal.SIGKILL)
        assert killed.status == LOST
        assert "killed, perhaps for lack of memory" in killed.reason
        pool.submit(Job(run=long))
        crashed = end_of(pool, signal.SIGSEGV)
        assert crashed.status == LOST
        assert "SIGSEGV" in crashed.reason
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
        pool.submit(_Unreadable())  # type: ignore[arg-type]
        failed = end_of(pool)
        assert failed.status == FAILED
        assert not failed.logged
        assert "exit code 1" in failed.reason
        assert "no such thing here" in capfd.readouterr().err
