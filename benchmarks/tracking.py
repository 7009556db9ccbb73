"""Cost of tracking: a run of the quickstart without it, with a local store, and with a server, in turns.

    python -m benchmarks.tracking [--steps 300] [--repeats 3]

`waits`: seconds that the training itself spends in calls of tracking, as a share of the training. `thread`:
CPU seconds of the thread that sends, which shares the cores, likewise. `around`: seconds of the calls before
and after the training (run, parameters, corpus, model, files, final values), once a run. Medians; the
training's seconds with and without tracking stand beside them, but two of them differ by more than tracking
costs wherever other processes run.
"""

import argparse
import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.mlflow_server import MlflowServer
from experiments.execution import study_runner as runner
from experiments.execution import worker
from experiments.execution.job_observers import JournalObserver
from experiments.studies import runs, study
from experiments.studies.runs import Run
from experiments.tracking import journal as metrics_journal
from experiments.tracking.schema import Tag
from experiments.tracking.store import Store
from experiments.training import distributed as processes
from experiments.training import trained_codec


class Clock:
    """Seconds spent in functions by name: wall-clock of the main thread, CPU of the sending one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = False

    def of(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            main = threading.current_thread() is threading.main_thread()
            if main and self._inside:
                return function(*args, **kwargs)
            self._inside = self._inside or main
            clock = time.perf_counter if main else time.thread_time
            started = clock()
            try:
                return function(*args, **kwargs)
            finally:
                key = name if main else "thread"
                self.seconds[key] = self.seconds.get(key, 0.0) + clock() - started
                self._inside = self._inside and not main

        return timed


def untracked(run: Run) -> float:
    """Seconds of the training alone."""
    fabric = processes.single(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / run.training_hash).mkdir()
        _, trained, _ = trained_codec.obtain(run, Path(folder), fabric=fabric)
    return trained.seconds


class Alone:
    """A worker's link to no runner."""

    def tell(self, update: worker.Update) -> None:
        pass

    def stopping(self) -> bool:
        return False


def tracked(run: Run, uri: str, number: int) -> Mapping[str, float]:
    """Seconds of a run as a study's worker does it, by what they were spent on."""
    clock = Clock()
    name = f"benchmark-{number}"
    patched: list[tuple[Any, str, Callable[..., Any]]] = []
    for owner, method, key in (
        (JournalObserver, "restored", "waits"),
        (JournalObserver, "metrics", "waits"),
        (JournalObserver, "saving", "waits"),
        (metrics_journal.MetricsJournal, "send", "waits"),
        (metrics_journal.MetricsJournal, "finish", "waits"),
        (Store, "patiently", "around"),
    ):
        original = getattr(owner, method)
        patched.append((owner, method, original))
        setattr(owner, method, clock.of(key, original))
    try:
        parent = Store(uri, name).start(name, {}, match={"kind": "study", "study_hash": name})
        with tempfile.TemporaryDirectory() as folder:
            settings = worker.Settings(store_uri=uri, study=name, parent_id=parent, directory=Path(folder))
            outcome = worker.perform(worker.Job(run=run), settings, Alone())
            if outcome.reason:
                raise SystemExit(f"the run {outcome.status}: {outcome.reason}")
    finally:
        for owner, method, original in patched:
            setattr(owner, method, original)
    store = Store(uri, name)
    (found,) = store.search(kind="run")
    store.set_tags(found.info.run_id, {Tag.SUPERSEDED: "true"})  # so that the next one is done again
    return {**clock.seconds, "training": found.data.metrics["cost/train_seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    changed = ["quantizers=[fsq]", "train.warm_start=null", "evaluate.metrics=[mel_distance]"]
    asked = study.load("quickstart", [*changed, f"train.steps={arguments.steps}"])
    corpus = runner.identify(asked.data.corpus, runs.sample_rate(asked), lambda *_: None)
    (run,) = runs.expand(asked, corpus)
    alone: list[float] = []
    found: dict[str, list[Mapping[str, float]]] = {"sqlite": [], "server": []}
    with tempfile.TemporaryDirectory() as folder, MlflowServer(Path(folder) / "server") as server:
        uris = {"sqlite": f"sqlite:///{folder}/mlflow.db", "server": server.uri}
        first = dataclasses.replace(run, train=run.train.model_copy(update={"steps": 10}))
        for uri in uris.values():
            tracked(first, uri, 0)  # imports and first connections, which a study pays once
        for number in range(1, arguments.repeats + 1):
            alone.append(untracked(run))
            for name, uri in uris.items():
                found[name].append(tracked(run, uri, number))
    print(f"{arguments.steps} steps, median of {arguments.repeats}; training untracked {median(alone):.1f} s")
    for name, rounds in found.items():
        training = median(r["training"] for r in rounds)
        shares = {key: median(r.get(key, 0.0) / r["training"] for r in rounds) for key in ("waits", "thread")}
        around = median(r["around"] for r in rounds)
        print(
            f"{name:7} training {training:6.1f} s   waits {100 * shares['waits']:5.2f} %   "
            f"thread {100 * shares['thread']:5.2f} %   around {around:5.2f} s"
        )


if __name__ == "__main__":
    main()
