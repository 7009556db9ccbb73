"""Running a study: what is finished is skipped, the rest is shared out to worker processes."""

import contextlib
import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from experiments import reference_runs, tracking, worker
from experiments.reference_runs import ReferenceRun
from experiments.runs import CorpusIdentity, Run, expand, study_hash
from experiments.study import Study
from experiments.tracking import FINISHED, Store
from experiments.worker import STOPPED, Job, Outcome, Settings, Update

AnyRun = TypeVar("AnyRun", Run, ReferenceRun)

WORKER_MEMORY = 2 * 2**30  # bytes; torch, the tracking client and the metrics' models take 1.5 GB
LOST = "lost"  # the outcome of a run whose process was killed


@dataclass
class Summary:
    """What came of a study: outcome by run hash, where a run was needed; `reused` were finished before."""

    runs: list[Run]
    parent_id: str
    directory: Path
    reused: set[str] = field(default_factory=set)
    outcomes: dict[str, str] = field(default_factory=dict)
    references: list[ReferenceRun] = field(default_factory=list)

    @property
    def finished(self) -> list[Run]:
        return [r for r in self.runs if r.hash in self.reused or self.outcomes.get(r.hash) == FINISHED]

    @property
    def complete(self) -> bool:
        return len(self.finished) == len(self.runs)

    @property
    def stopped(self) -> bool:
        return bool({STOPPED, LOST} & set(self.outcomes.values()))


def default_workers() -> int:
    """One worker for each core that this process may use, as far as the memory goes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not said on this system
        return cores
    return max(1, min(cores, memory // WORKER_MEMORY))


def open_store(study: Study, runs: "Sequence[Run | ReferenceRun]", uri: str) -> tuple[Store, str]:
    """The store of a study, and the id of the parent run of these very runs."""
    store = Store(uri, study.name, study.question)
    parent = store.start(
        study.name,
        {
            f"{tracking.TAG}status": tracking.RUNNING,
            f"{tracking.TAG}run_hashes": " ".join(run.hash for run in runs),
            **tracking.provenance(),
        },
        match={"kind": tracking.KIND_STUDY, "study_hash": study_hash(runs)},
    )
    store.log_params(parent, study.model_dump(mode="json"))
    return store, parent


def pending(
    runs: Sequence[AnyRun], store: Store, retry: bool
) -> tuple[list[AnyRun], set[str], dict[str, tuple[str, str]]]:
    """Runs to do, hashes of finished ones, and those that failed or diverged before with their reasons."""
    known = store.statuses()
    done = {run.hash for run in runs if known.get(run.hash, ("", ""))[0] == FINISHED}
    broken = {
        run.hash: known[run.hash]
        for run in runs
        if known.get(run.hash, ("", ""))[0] in (tracking.FAILED, tracking.DIVERGED) and not retry
    }
    return [run for run in runs if run.hash not in done and run.hash not in broken], done, broken


def execute(
    runs: Sequence[Run],
    settings: Settings,
    *,
    references: Sequence[ReferenceRun] = (),
    workers: int,
    show: Callable[[Update], None],
) -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """Do `runs` in worker processes, warm starts first and references last.

    Returns two outcomes by run hash: of the runs that were begun, and of those whose warm start did not
    finish, that is the warm start's. On KeyboardInterrupt workers save their state, and their runs count as
    stopped.
    """
    warm = {run.training_hash: run for run in (r.warm_start() for r in runs) if run is not None}
    needed = [
        Job(run=run, warm_start=True)
        for name, run in warm.items()
        if not (settings.directory / name / "trained.json").exists()
    ]
    outcomes = _work(needed, settings, workers, show)
    ready, kept_back = [], {}
    for run in runs:
        start = run.warm_start()
        outcome = outcomes.get(start.training_hash) if start else None
        if outcome is None or outcome.status == FINISHED:
            ready.append(Job(run=run))
        else:
            kept_back[run.hash] = outcome
    ready += [Job(run=reference) for reference in references]
    return _work(ready, settings, workers, show), kept_back


def identify(spec: str, sample_rate: int, progress: Callable[[str, int, int], None]) -> CorpusIdentity:
    """Prepare the corpus of a study, and say what it is."""
    from experiments.data import prepare

    shards = prepare(spec, sample_rate=sample_rate, progress=progress)
    return CorpusIdentity(
        spec=spec, name=shards.name, content_hash=shards.content_hash, synthetic=shards.synthetic
    )


def run_study(
    study: Study,
    corpus: CorpusIdentity,
    *,
    uri: str,
    directory: Path,
    workers: int,
    device: str = "cpu",
    retry: bool = False,
    announce: Callable[[Sequence[Run | ReferenceRun], set[str], dict[str, tuple[str, str]]], None],
    show: Callable[[Update], None],
) -> tuple[Summary, Store]:
    """Run what is missing of `study`. A reference that could not run before is tried again.

    announce: called once with the runs to do, the hashes of finished runs, and the broken ones.
    """
    runs = expand(study, corpus)
    references = reference_runs.expand(study, corpus)
    store, parent = open_store(study, [*runs, *references], uri)
    todo, reused, broken = pending(runs, store, retry)
    references_todo, _, _ = pending(references, store, retry=True)
    announce([*todo, *references_todo], reused, broken)
    summary = Summary(runs, parent, directory, reused, {key: status for key, (status, _) in broken.items()})
    summary.references = references
    if todo or references_todo:
        settings = Settings(
            store_uri=uri, study=study.name, parent_id=parent, directory=directory, device=device
        )
        begun, kept_back = execute(todo, settings, references=references_todo, workers=workers, show=show)
        for run in todo:
            outcome = kept_back.get(run.hash)
            if outcome and outcome.status in (tracking.FAILED, tracking.DIVERGED):
                run_id = worker.open_run(store, run, parent)
                store.set_status(run_id, outcome.status, f"in the warm start: {outcome.reason}"[:500])
        summary.outcomes |= {key: outcome.status for key, outcome in {**begun, **kept_back}.items()}
    if summary.stopped:
        store.pause(parent)
    else:
        store.set_status(parent, FINISHED if summary.complete else tracking.FAILED)
    return summary, store


def _work(
    jobs: Sequence[Job],
    settings: Settings,
    workers: int,
    show: Callable[[Update], None],
) -> dict[str, Outcome]:
    """Do all `jobs` in worker processes; outcome by key."""
    if not jobs:
        return {}
    context = multiprocessing.get_context("spawn")
    updates: multiprocessing.Queue[Update] = context.Queue()
    stop = context.Event()
    outcomes: dict[str, Outcome] = {}
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        mp_context=context,
        initializer=worker.initialise,
        initargs=(updates, stop, settings),
    )
    futures = {pool.submit(worker.perform, job): job.key for job in jobs}
    waiting = set(futures)
    while waiting:
        try:
            done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            _drain(updates, show)
            for future in done:
                key = futures[future]
                outcomes[key] = _outcome(future)
                if outcomes[key].status == LOST:
                    show(Update(key=key, stage=f"failed: {outcomes[key].reason}"))
                show(Update(key=key, outcome=outcomes[key].status))
        except KeyboardInterrupt:
            if stop.is_set():
                raise  # a second Ctrl-C does not wait
            stop.set()
            for future in waiting:
                future.cancel()
            show(Update(key="", stage="stopping: saving the runs under way (Ctrl-C again: don't wait)"))
    pool.shutdown()
    _drain(updates, show)
    return outcomes


def _outcome(future: "Future[Outcome]") -> Outcome:
    if future.cancelled():
        return Outcome(STOPPED)
    try:
        return future.result()
    except BrokenProcessPool:
        return Outcome(LOST, "its process was killed, perhaps for lack of memory; try --workers 1")


def _drain(updates: "multiprocessing.Queue[Update]", show: Callable[[Update], None]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            show(updates.get_nowait())
