"""Worker processes that score utterances, kept alive between systems of a study.

Workers are forked from a server that has already imported the backends (where the platform can), run one
thread each, and end with the process that started them, even if it is killed. An utterance that crashes a
worker (PESQ is C code) gets a status; the others are scored all the same.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from experiments.common import child_processes
from experiments.metrics.scoring import Score, Task, failures, score_utterance

CRASHED = "backend error: the worker process died"
_PRELOADED = {
    "pesq": ("pesq",),
    "pystoi": ("pystoi",),
    "swift_f0": ("swift_f0",),
    "speechmos": ("speechmos.dnsmos", "librosa.feature"),
}
"""Imports of the server for modules that metrics need. None starts threads: workers are forks."""
_TASKS_A_WORKER = 2
"""In flight for each worker: one under way and one waiting, which bounds the audio held in memory."""

_pools: dict[int, ProcessPoolExecutor] = {}


def score_tasks(tasks: Iterable[Task], workers: int, modules: Iterable[str] = ()) -> Iterator[list[Score]]:
    """Scores of each task, in order of completion; `tasks` is read only as fast as they are scored.

    `modules` are those that the metrics need, so that they are imported once for all workers.
    """
    preloaded = _preloaded(modules)
    waiting: dict[Future[list[Score]], Task] = {}
    stream = iter(tasks)
    try:
        while True:
            pool = _pool(workers, preloaded)
            crashed: list[Task] = []
            try:
                while len(waiting) < _TASKS_A_WORKER * workers and (task := next(stream, None)) is not None:
                    try:
                        waiting[pool.submit(score_utterance, task)] = task
                    except BrokenProcessPool:
                        crashed.append(task)
                        raise
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    scores = future.result()
                    del waiting[future]
                    yield scores
            except BrokenProcessPool:
                # Which task did it is not said: everything under way is run again, alone.
                _discard(workers)
                crashed += waiting.values()
                waiting.clear()
                for task in crashed:
                    yield _score_alone(task, preloaded)
    finally:
        # Stopped half-way, as by Ctrl-C: nobody waits for what is under way, and it may take minutes.
        if waiting:
            _kill(workers)


def _score_alone(task: Task, preloaded: Sequence[str]) -> list[Score]:
    """Score a task in a process of its own, metric by metric if it dies as a whole."""
    with _executor(1, preloaded) as pool, contextlib.suppress(BrokenProcessPool):
        return pool.submit(score_utterance, task).result()
    if len(task.metric_names) == 1:
        return failures(task.utterance, task.metric_names, CRASHED)
    apart = [replace(task, metric_names=(name,)) for name in task.metric_names]
    return [score for each in apart for score in _score_alone(each, preloaded)]


def _pool(workers: int, preloaded: Sequence[str] = ()) -> ProcessPoolExecutor:
    if workers not in _pools:
        close()
        _pools[workers] = _executor(workers, preloaded)
    return _pools[workers]


def _discard(workers: int) -> None:
    _pools.pop(workers).shutdown(wait=True, cancel_futures=True)


def _kill(workers: int) -> None:
    if workers in _pools:
        for process in list((_pools[workers]._processes or {}).values()):
            process.kill()
        _discard(workers)


@atexit.register
def close() -> None:
    """End the worker processes; the next call of `score_tasks` starts new ones."""
    for workers in list(_pools):
        _discard(workers)


def _preloaded(modules: Iterable[str]) -> list[str]:
    """Modules that workers have imported already when they start."""
    backends = [name for module in sorted(set(modules)) for name in _PRELOADED.get(module, ())]
    return ["torch", "torchaudio", "experiments.metrics.scoring", *backends]


def _executor(workers: int, preloaded: Sequence[str]) -> ProcessPoolExecutor:
    context: Any = child_processes.context(preloaded)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=child_processes.become_worker)
    with child_processes.environment():
        for future in [pool.submit(os.getpid) for _ in range(workers)]:
            future.result()
    return pool
