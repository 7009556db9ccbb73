"""Start worker processes: from a fork server, one thread each, ignoring Ctrl-C, ending with their parent."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext
    from multiprocessing.process import BaseProcess

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_ATTEMPTS = 3  # at starting a process

_SERVER_KILLED = (
    "the process that starts the workers was killed, perhaps for lack of memory. Remedy: close other "
    "programs, or use fewer --workers, and start the same command again; nothing that was saved is lost"
)


class WorkerError(ValueError):
    """Worker processes cannot be started; the message says why and what to do."""

    exit_code = 1  # of a command: not for want of a right argument


def context(modules: Sequence[str]) -> "ForkServerContext | SpawnContext":
    """Where workers come from: a fork server that has imported `modules` and done nothing else, so that
    many start in the time of one. Spawned processes where forking is unsafe, or there is none."""
    with environment():
        resource_tracker.ensure_running()  # a process of its own, which the first semaphore would start
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(modules))
    return server


def start(modules: Sequence[str]) -> None:
    """Let the fork server, where the system has one, import `modules` while this process does other work."""
    if context(modules).get_start_method() == "forkserver":
        from multiprocessing import forkserver

        with environment():
            forkserver.ensure_running()


def start_process(process: "BaseProcess") -> None:
    """Start one worker process; a fork server that was killed is started again.

    Raises WorkerError when it is killed each time.
    """
    for attempt in range(_ATTEMPTS):
        with contextlib.suppress(EOFError, ConnectionError, FileNotFoundError), environment():
            process.start()
            return
        time.sleep(0.2 * attempt)
    raise WorkerError(_SERVER_KILLED)


@contextlib.contextmanager
def pool(
    workers: int,
    modules: Sequence[str],
    initializer: Callable[..., None] | None = None,
    initargs: Sequence[Any] = (),
) -> Iterator[ProcessPoolExecutor]:
    """An executor of `workers` processes that have imported `modules` and called `initializer`.

    When the block ends by an exception, as by Ctrl-C, they are killed: nobody waits for what they do. Raises
    WorkerError where the fork server was killed while it started one.
    """
    begin = (initializer, *initargs)
    with environment(), ProcessPoolExecutor(workers, context(modules), _begin, begin) as executor:
        try:
            yield executor
        except BaseException as error:
            for process in list((executor._processes or {}).values()):
                process.kill()
            if isinstance(error, EOFError | ConnectionRefusedError | ConnectionResetError):
                raise WorkerError(_SERVER_KILLED) from error
            raise


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """`variables`, one thread a process, and safe paths for what starts inside: numerical libraries and
    Python read these when they are loaded.

    With safe paths, a `codec.py` in the working folder does not stand in for our package of that name.
    """
    values = {**dict.fromkeys(_THREAD_VARIABLES, "1"), "PYTHONSAFEPATH": "1", **_source_path(), **variables}
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


def _begin(initializer: Callable[..., None] | None, *arguments: Any) -> None:
    become_worker()
    if initializer is not None:
        initializer(*arguments)


def _source_path() -> dict[str, str]:
    """PYTHONPATH with the folder of our packages, where that is not a folder of installed packages: with safe
    paths a checkout is found by it alone."""
    home = Path(__file__).resolve().parents[2]
    if home.name in ("site-packages", "dist-packages"):
        return {}
    paths = [str(home), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
