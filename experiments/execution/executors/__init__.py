"""Executors: where jobs are done. Each opens a pool that takes jobs and tells how they ended.

with executor.open(settings) as pool:
    pool.submit(job)
    for job, outcome in pool.wait(show):
        ...
"""

from experiments.execution.executors.contract import Executor, ExecutorError
from experiments.execution.executors.local import Local
from experiments.execution.executors.ray_cluster import RayCluster

__all__ = ["Executor", "ExecutorError", "create"]


def create(
    name: str,
    *,
    workers: int | None = None,
    address: str | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    runs_per_device: int = 1,
) -> Executor:
    """The executor called `name`.

    local: `workers` processes of this machine, by default as many as its cores and memory allow, or
        `runs_per_device` for each GPU.
    ray: tasks with `cpus` and `gpus` each, on the cluster at `address`, by default a new one on this machine.

    Raises ExecutorError.
    """
    if name == "local":
        return Local(workers=workers, runs_per_device=runs_per_device)
    if name == "ray":
        return RayCluster(address=address, cpus=cpus, gpus=gpus or 0)
    raise ExecutorError(f"no executor {name!r}; known: local, ray")
