"""Executors: where jobs are done. Each opens a pool that takes jobs and tells how they ended.

with executor.open(settings) as pool:
    pool.submit(job)
    for job, outcome in pool.wait(show):
        ...
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from experiments.worker import Job, Outcome, Settings, Update


class ExecutorError(ValueError):
    """An executor cannot be used; the message says why and what to do."""


class Pool(Protocol):
    """Takes jobs in, in order, and does as many at once as there is room for."""

    def submit(self, job: "Job") -> None:
        """Add a job."""

    def wait(self, show: "Callable[[Update], None]") -> "list[tuple[Job, Outcome]]":
        """What ended since the last call, after at most a fraction of a second; updates go to `show`."""

    def stop(self) -> None:
        """Ask the jobs under way to save their state and end. Those that were not begun end as stopped.

        All still come out of `wait`.
        """


class Executor(Protocol):
    """A way to do jobs. Plain settings, so that it can be made from a command line."""

    def open(self, settings: "Settings") -> AbstractContextManager[Pool]:
        """A pool for the jobs of one study. Raises ExecutorError."""


def create(
    name: str,
    *,
    workers: int | None = None,
    address: str | None = None,
    cpus: float = 1,
    gpus: float | None = None,
) -> Executor:
    """The executor called `name`.

    local: `workers` processes of this machine, by default as many as its cores, memory or GPUs allow.
    ray: tasks with `cpus` and `gpus` each, on the cluster at `address`, by default a new one on this machine.

    Raises ExecutorError.
    """
    if name == "local":
        from experiments.executors.local import Local

        return Local(workers=workers)
    if name == "ray":
        from experiments.executors.ray_cluster import RayCluster

        return RayCluster(address=address, cpus=cpus, gpus=gpus or 0)
    raise ExecutorError(f"no executor {name!r}; known: local, ray")
