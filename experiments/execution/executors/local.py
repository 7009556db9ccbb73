"""Worker processes on this machine: one GPU each where there are any, and their share of the cores."""

import contextlib
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import TYPE_CHECKING

from experiments.common import child_processes
from experiments.common.machine import default_workers, gpus, share_of_cores
from experiments.execution import worker
from experiments.execution.jobs import LOST, STOPPED, Job, Outcome, Settings, Update
from experiments.execution.outcomes import reason_of
from experiments.metrics import pool as scorers
from experiments.tracking.schema import FAILED

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from multiprocessing.synchronize import Event

TICK = 0.2  # seconds
_SERVER_GONE = 255  # what multiprocessing says of the children of a fork server that was killed

# Imported once and shared by all workers where processes can be forked from a clean one.
_PRELOADED = ["mlflow", "torch", "torchaudio", "pandas", "experiments.execution.training_job"]


@dataclass(frozen=True)
class Local:
    """Processes of this machine; by default one per core, as far as the memory goes, or `runs_per_device` a
    GPU."""

    workers: int | None = None
    runs_per_device: int = 1

    @contextmanager
    def open(self, settings: Settings) -> "Iterator[LocalPool]":
        chosen = gpus(settings.device)
        if chosen:  # each process sees one GPU, which is cuda:0 there
            settings = replace(settings, device="cuda")
        workers = self.workers
        if workers is None and not chosen and settings.device != "cpu":
            workers = self.runs_per_device
        pool = LocalPool(settings, workers, chosen * self.runs_per_device)
        try:
            yield pool
        except BaseException:  # a second Ctrl-C does not wait
            pool.kill()
            raise
        finally:
            pool.close()


@dataclass(eq=False)
class _Process:
    """One worker process, the end of the pipe to it, and what it is doing."""

    process: "BaseProcess"
    pipe: "Connection[Job | None, Update | Outcome]"
    job: Job | None = None


@dataclass
class LocalPool:
    """Worker processes, started as jobs come. One that is killed takes only its own job with it."""

    settings: Settings
    workers: int | None = None
    gpus: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.size = self.workers or len(self.gpus) or default_workers()
        self.settings = replace(self.settings, cores=share_of_cores(self.size))
        self._context = child_processes.context(_PRELOADED)
        self._stop: Event = self._context.Event()
        self._queue: deque[Job] = deque()
        self._processes: list[_Process | None] = []
        self._ended: list[tuple[Job, Outcome]] = []

    def submit(self, job: Job) -> None:
        """Add a job."""
        self._queue.append(job)

    def wait(self, show: Callable[[Update], None]) -> list[tuple[Job, Outcome]]:
        """Jobs that ended since the last call, with their outcomes; updates go to `show`."""
        self._feed()
        places = {one.pipe: place for place, one in enumerate(self._processes) if one}
        for pipe in wait_for(list(places), TICK):
            self._listen(places[pipe], show)  # type: ignore[index]
        self._feed()
        ended, self._ended = self._ended, []
        return ended

    def stop(self) -> None:
        """Ask the jobs under way to save their state and end."""
        self._stop.set()
        self._ended += [(job, Outcome(STOPPED)) for job in self._queue]
        self._queue.clear()

    def kill(self) -> None:
        """End the processes now: what they have not saved is lost."""
        for one in self._processes:
            if one:
                one.process.kill()

    def close(self) -> None:
        """End the processes, when they are done with their jobs."""
        living = [one for one in self._processes if one]
        for one in living:
            with contextlib.suppress(OSError):
                one.pipe.send(None)
        for one in living:
            one.process.join()
            one.pipe.close()

    def _feed(self) -> None:
        """Give waiting jobs to idle processes, starting new ones up to the size of the pool."""
        for place in range(self.size):
            if not self._queue:
                return
            if place == len(self._processes):
                self._processes.append(None)
            one = self._processes[place] = self._processes[place] or self._start(place)
            if one.job is None:
                one.job = self._queue.popleft()
                with contextlib.suppress(OSError):  # it died idle; `_listen` will find out
                    one.pipe.send(one.job)

    def _start(self, place: int) -> _Process:
        near, far = self._context.Pipe()
        gpu = self.gpus[place % len(self.gpus)] if self.gpus else None
        process = self._context.Process(target=_serve, args=(far, self._stop, self.settings, gpu))
        child_processes.start_process(process)
        far.close()
        return _Process(process, near)

    def _listen(self, place: int, show: Callable[[Update], None]) -> None:
        one = self._processes[place]
        assert one is not None
        try:
            said = one.pipe.recv()
        except (EOFError, OSError):
            one.process.join()
            self._processes[place] = None
            if one.job is not None:
                self._ended.append((one.job, _outcome_of_exit(one.process.exitcode)))
            return
        if isinstance(said, Update):
            show(said)
        elif one.job is not None:
            self._ended.append((one.job, said))
            one.job = None


def _outcome_of_exit(code: int | None) -> Outcome:
    """The outcome of a job whose process ended with exit `code` without a word."""
    if code is None or code == _SERVER_GONE:
        return Outcome(LOST, "its process, or the one that starts all processes, was killed")
    if code >= 0:
        reason = f"its process ended with exit code {code}; the last lines that it printed say why"
        return Outcome(FAILED, reason, logged=False)
    if -code == signal.SIGKILL:
        return Outcome(LOST, "its process was killed, perhaps for lack of memory; try fewer --workers")
    return Outcome(LOST, f"its process was ended by signal {signal.Signals(-code).name}")


class _PipeLink:
    """A worker's link to the runner. Where that is gone, the worker ends as if it were killed with it."""

    def __init__(self, pipe: "Connection[Update | Outcome, Job | None]", stop: "Event") -> None:
        self._pipe, self._stop = pipe, stop

    def tell(self, update: Update) -> None:
        try:
            self._pipe.send(update)
        except OSError:
            raise SystemExit(1) from None

    def stopping(self) -> bool:
        return self._stop.is_set()


def _serve(
    pipe: "Connection[Update | Outcome, Job | None]", stop: "Event", settings: Settings, gpu: str | None
) -> None:
    """The life of a worker process."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA is first used, which is here
    child_processes.become_worker()
    link = _PipeLink(pipe, stop)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while (job := pipe.recv()) is not None:
            try:
                outcome = worker.perform(job, settings, link)
            except Exception as error:
                traceback.print_exc()
                outcome = Outcome(FAILED, reason_of(error), logged=False)
            pipe.send(outcome)
    scorers.close()
