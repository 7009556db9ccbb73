"""Worker processes: what they find on their path, what they do with signals, and that none is left behind."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from experiments.common import child_processes

linux = pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux alone")


def where(name: str) -> tuple[str, int]:
    """The file of a module, as a worker imports it, and the worker's process."""
    return str(__import__(name).__file__), os.getpid()


def test_a_module_of_the_working_folder_does_not_stand_in_for_ours(tmp_path: Path) -> None:
    for name in ("codec.py", "quantizers.py", "random.py", "signal.py"):
        (tmp_path / name).write_text("raise RuntimeError('a file of the user')\n")
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(
        textwrap.dedent(
            """
            from experiments.common import child_processes

            def where(name):
                return __import__(name).__file__

            if __name__ == "__main__":
                with child_processes.pool(1, ["quantizers", "codec"]) as pool:
                    for name in ("quantizers", "codec", "random", "signal"):
                        print(pool.submit(where, name).result())
            """
        )
    )
    root = Path(child_processes.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert files[:2] == [str(root / "quantizers" / "__init__.py"), str(root / "codec" / "__init__.py")]
    assert not any(file.startswith(str(tmp_path)) for file in files)
    assert not done.stderr


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before = dict(os.environ)
    with child_processes.environment(EXTRA="1"):
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert os.environ["PYTHONSAFEPATH"] == "1"
        assert os.environ["EXTRA"] == "1"
        assert str(Path(child_processes.__file__).parents[2]) in os.environ["PYTHONPATH"].split(os.pathsep)
    assert dict(os.environ) == before


def test_a_pool_whose_block_fails_kills_its_workers() -> None:
    with contextlib.suppress(KeyboardInterrupt), child_processes.pool(2, []) as pool:
        _, first = pool.submit(where, "os").result()
        pool.submit(time.sleep, 600)
        pool.submit(time.sleep, 600)
        started = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(first, 0)
            time.sleep(0.1)


@linux
def test_a_fork_server_that_was_killed_is_started_again() -> None:
    context = child_processes.context([])
    first = context.Process(target=os.getpid)
    child_processes.start_process(first)
    first.join()
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGKILL)
    second = context.Process(target=os.getpid)
    child_processes.start_process(second)
    second.join()
    assert second.exitcode == 0
    assert forkserver._forkserver._forkserver_pid != server  # type: ignore[attr-defined]


def test_one_that_is_killed_each_time_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    attempts = []

    def start() -> None:
        attempts.append(1)
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(process, "start", start)
    with pytest.raises(child_processes.WorkerError, match=r"perhaps for lack of memory\. Remedy: close"):
        child_processes.start_process(process)
    assert len(attempts) == 3
