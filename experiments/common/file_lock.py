"""Locks between processes of a machine, as files that the system frees when their holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(target: Path) -> Iterator[bool]:
    """Hold the lock of `target`, a file `.<name>.lock` beside it; who comes second waits.

    Makes the folder. Yields whether there is such a lock: Windows and some network disks have none, so that
    the first to finish wins. Raises OSError where the folder cannot be written to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name[:200]}.lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        except (ImportError, OSError):
            held = False
        yield held
