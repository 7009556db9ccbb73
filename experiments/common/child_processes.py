"""What every worker process of this machine is like: forked from a clean one, one thread, deaf to Ctrl-C,
gone with its parent."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def context(modules: Sequence[str]) -> "ForkServerContext | SpawnContext":
    """Where workers come from: a process that has imported `modules` and done nothing else, so that
    many start in the time of one."""
    if sys.platform != "linux":  # where forking is unsafe, or there is none
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(modules))
    return server


def start(modules: Sequence[str]) -> None:
    """Let that process, where the system has one, import `modules` while this one does something else."""
    if context(modules).get_start_method() == "forkserver":
        from multiprocessing import forkserver

        with environment():
            forkserver.ensure_running()


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """`variables`, and one thread a process, for what starts inside: numerical libraries read these when
    they are loaded."""
    values = {**dict.fromkeys(_THREAD_VARIABLES, "1"), **variables}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def become_worker() -> None:
    """Prepare this process, started by `multiprocessing`, for work."""
    # Ctrl-C, and what a scheduler sends before it kills, go to the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)  # so that a result does not depend on the number of cores


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
