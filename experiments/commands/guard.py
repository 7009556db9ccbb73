"""Errors of commands: whatever is raised ends as one readable message and an exit code.

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | a run or a check failed, nothing could be scored, a worker process was killed, or codecbench has a bug |
| 2 | an argument, a file or the store is invalid; the message says what to correct |
| 130 | stopped by Ctrl-C or SIGTERM, or runs are left to another process: run the same command again |
| 141 | the reader of the output has ended, as in `codecbench table STUDY | head` |
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import tempfile
import time
import traceback
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from experiments.commands.display.terminal import messages
from experiments.commands.outputs import explanation, is_explained

FAILED, WRONG_INPUT = 1, 2
STOPPED, NO_READER = 130, 141  # as shells name an end by SIGINT and by SIGPIPE
MARK = b"codecbench"  # in `__init__.py` of each of our packages
PACKAGES = ("quantizers", "codec", "experiments", "analysis")  # our top-level packages

# Typer has its own copy of Click or uses an installed one, by its version: the class is taken from Typer.
_UsageError: type[Exception] = next(
    cls
    for cls in typer.BadParameter.__mro__
    if cls.__name__ == "ClickException" and issubclass(cls, Exception)
)


class GuardedCommands(TyperGroup):
    """A group of commands none of which ends in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Invoke a command; what it raises becomes a message and an exit code."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
            return answer
        except _UsageError as error:
            said = str(getattr(error, "message", error))
            setattr(error, "message", said.replace("Value error, ", ""))  # noqa: B010 -- pydantic's words
            raise
        except (typer.Exit, typer.Abort):
            raise  # Typer prints these, and the ones above
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(report(error)) from None


def report(error: BaseException) -> int:
    """Print what `error` means to the user; the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return _say("stopped; nothing that was saved is lost", STOPPED)
    if isinstance(error, BrokenPipeError) and _reader_is_gone():
        _silence_streams()
        return NO_READER
    if is_meant_for_users(error):
        return _say(f"error: {error}", getattr(error, "exit_code", WRONG_INPUT))
    if isinstance(error, OSError) and is_explained(error):
        return _say(f"error: {explanation(error)}", WRONG_INPUT)
    if isinstance(error, MemoryError):
        return _say("error: not enough memory; close other programs, or ask for less at once", FAILED)
    if _is_killed_worker(error):
        return _say(
            "error: a worker process was killed, perhaps for lack of memory; start the same command again, "
            "with fewer --workers where it has that option",
            FAILED,
        )
    if isinstance(error, ImportError | AttributeError) and (rivals := rival_distributions()):
        return _say(f"error: {rivals}", WRONG_INPUT)
    return _say(_fault(error), FAILED)


def is_meant_for_users(error: BaseException) -> bool:
    """Whether the message of `error` is written for users: our own error classes derive from ValueError.

    A bare ValueError, or one of a library, is a fault of ours.
    """
    return isinstance(error, ValueError) and type(error).__module__.split(".")[0] in PACKAGES


def rival_distributions() -> str:
    """A message where another distribution has installed files into one of our packages, else empty."""
    with contextlib.suppress(Exception):  # metadata of others may be damaged
        owners = packages_distributions()
        for package in PACKAGES:
            others = sorted(set(owners.get(package, ())) - {"codecbench"})
            if others:
                return (
                    f"distribution {others[0]!r} has a package called {package!r}, too. Remedy: install "
                    f"codecbench into a virtual environment without it, or `pip uninstall {others[0]}` and "
                    "install codecbench again"
                )
    return ""


def _say(text: str, code: int) -> int:
    with contextlib.suppress(OSError, ValueError):  # stderr may be closed
        messages().say_lines(text)
    return code


def _fault(error: BaseException) -> str:
    """One line about a fault of codecbench itself, and the file that its traceback was written to."""
    lines = str(error).strip().splitlines()
    what = f"error: unexpected {type(error).__name__}{f': {lines[0]}' if lines else ''}"
    text = f"command: {sys.argv!r}\n{''.join(traceback.format_exception(error))}"
    name = f"codecbench-traceback-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            path = folder / name
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return f"{what}. This is a fault of codecbench; please report it with the traceback in {path}"
    return f"{what}. This is a fault of codecbench; its traceback could not be written to a file:\n{text}"


def _is_killed_worker(error: BaseException) -> bool:
    """Whether `error` says that a worker process, or the one that starts them, has gone."""
    module = sys.modules.get("concurrent.futures.process")
    if module is not None and isinstance(error, module.BrokenProcessPool):
        return True
    if not isinstance(error, EOFError | ConnectionError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return any("multiprocessing" in Path(frame.filename).parts for frame in frames)


def _reader_is_gone() -> bool:
    """Whether nobody reads stdout or stderr any more; other pipes lead to worker processes."""
    return any(_is_unread(stream) for stream in (sys.stdout, sys.stderr))


def _silence_streams() -> None:
    """Let what is still buffered go nowhere, so that the interpreter has nothing to say at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if _is_unread(stream):
            os.dup2(nowhere, stream.fileno())


def _is_unread(stream: TextIO) -> bool:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):  # not a file of the system
        return False
    if not hasattr(select, "poll"):  # Windows: nothing tells
        return True
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
