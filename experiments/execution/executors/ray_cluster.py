"""Tasks on a Ray cluster. Weights and states lie in a folder that all its machines share."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.execution import worker
from experiments.execution.executors.contract import ExecutorError
from experiments.execution.jobs import LOST, STOPPED, Job, Outcome, Settings, Update
from experiments.tracking.schema import FAILED

RETRIES = 5  # of a run whose machine was lost
TICK = 0.5  # seconds between a worker's looks at the board
OBJECT_STORE = 100 * 2**20  # bytes; jobs and outcomes are small
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class RayCluster:
    """The cluster at `address` (`auto`: the one that this machine is part of), or a new one of this machine
    alone. Each run takes `cpus` and `gpus`."""

    address: str | None = None
    cpus: float = 1
    gpus: float = 0

    @contextmanager
    def open(self, settings: Settings) -> "Iterator[RayPool]":
        ray = _connect(self.address)
        try:
            settings = replace(_absolute(settings), cores=max(1, int(self.cpus)))
            yield RayPool(ray, settings, self.cpus, self.gpus)
        finally:
            ray.shutdown()


@dataclass
class RayPool:
    """Jobs as Ray tasks. A task whose machine is lost is given to another one, up to `RETRIES` times."""

    ray: Any
    settings: Settings
    cpus: float
    gpus: float
    _under_way: dict[Any, Job] = field(default_factory=dict)
    _stopping: bool = False

    def __post_init__(self) -> None:
        # On the machine of the runner, which is lost last; `soft` would let a busy cluster put it elsewhere.
        here = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self.ray.get_runtime_context().get_node_id(), soft=False
        )
        self._board = (
            self.ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here, max_restarts=-1).remote()
        )
        self._task = self.ray.remote(_perform).options(
            num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES, scheduling_strategy="SPREAD"
        )

    def submit(self, job: Job) -> None:
        """Add a job."""
        task = self._task.remote(job, self.settings, self._board, str(Path.cwd()))
        self._under_way[task] = job

    def wait(self, show: Callable[[Update], None]) -> list[tuple[Job, Outcome]]:
        """Jobs that ended since the last call, with their outcomes; updates go to `show`."""
        if not self._under_way:
            time.sleep(TICK)
            return []
        done, _ = self.ray.wait(list(self._under_way), num_returns=len(self._under_way), timeout=TICK)
        for update in self._look():
            show(update)
        return [(self._under_way.pop(task), self._outcome(task)) for task in done]

    def stop(self) -> None:
        """Ask the tasks under way to save their state and end; the others end before they begin."""
        self._stopping = True
        self._look()

    def _look(self) -> list[Update]:
        # A board that is lost begins again, empty: it is told at each look whether to stop.
        try:
            updates: list[Update] = self.ray.get(self._board.take.remote(self._stopping))
        except self.ray.exceptions.RayActorError:
            return []  # updates are for the eye alone; those of the next look are shown
        return updates

    def _outcome(self, task: Any) -> Outcome:
        try:
            outcome: Outcome = self.ray.get(task)
        except self.ray.exceptions.RayTaskError as error:  # it raised: to do it again is no help
            reason = str(error).strip().splitlines()[-1]
            return Outcome(FAILED, f"its task ended with an error: {reason}", logged=False)
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            return Outcome(LOST, f"its machine or process was lost more than {RETRIES} times: {reason}")
        return outcome


class _Board:
    """An actor where tasks leave their updates, and read whether they are to stop."""

    def __init__(self) -> None:
        self._updates: list[Update] = []
        self._stopping = False

    def exchange(self, updates: list[Update]) -> bool:
        """Leave updates; returns whether to stop."""
        self._updates += updates
        return self._stopping

    def take(self, stopping: bool) -> list[Update]:
        """Updates since the last call. stopping: what tasks are told from now on."""
        self._stopping = stopping
        taken, self._updates = self._updates, []
        return taken


class _BoardLink:
    """A task's link to the runner: of the updates since the last look at the board only the newest of each
    stage is sent."""

    def __init__(self, board: Any) -> None:
        import ray

        self._ray, self._board = ray, board
        self._updates: dict[str, Update] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._send()  # a task that begins after a stop is told at once
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._exchange, daemon=True)
        self._thread.start()

    def tell(self, update: Update) -> None:
        with self._lock:
            self._updates[update.stage] = update

    def stopping(self) -> bool:
        return self._stopping

    def close(self) -> None:
        self._done.set()
        self._thread.join()

    def _exchange(self) -> None:
        while not self._done.wait(TICK):
            self._send()
        self._send()

    def _send(self) -> None:
        with self._lock:
            updates, self._updates = list(self._updates.values()), {}
        with contextlib.suppress(self._ray.exceptions.RayError):  # no news; the runner is told at the end
            self._stopping = bool(self._ray.get(self._board.exchange.remote(updates)))


def _perform(job: Job, settings: Settings, board: Any, folder: str) -> Outcome:
    """The task: `job` in a process of the cluster."""
    import torch

    torch.set_num_threads(1)  # so that a result does not depend on the machine
    with contextlib.suppress(OSError):  # where relative paths of corpora begin
        os.chdir(folder)
    if settings.device == "auto":
        settings = replace(settings, device=_device_of_task())
    link = _BoardLink(board)
    try:
        return Outcome(STOPPED) if link.stopping() else worker.perform(job, settings, link)
    finally:
        link.close()


def _device_of_task() -> str:
    """The GPU that Ray gave to this task, else the CPU: tasks that asked for none would share the first."""
    import ray

    return "cuda" if ray.get_gpu_ids() else "cpu"


def _connect(address: str | None) -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise ExecutorError("Ray is not installed; pip install 'codecbench[ray]'") from None
    address = address or os.environ.get("RAY_ADDRESS")  # set where Ray itself started this command
    new: dict[str, Any] = {} if address else {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **new)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExecutorError(
            f"no Ray cluster at {address or 'this machine'}: {reason}. Start one with `ray start --head`, or "
            "correct --address"
        ) from None
    return ray


def _absolute(settings: Settings) -> Settings:
    """Paths that mean the same in the working directories of the tasks."""
    uri = settings.store_uri
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).resolve()}"
    return replace(settings, directory=settings.directory.resolve(), store_uri=uri)
