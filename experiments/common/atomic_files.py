"""Atomic files: written beside their place, flushed to the disk, then renamed into it.

A process that is killed at any moment leaves the old file or the new one, whole.
"""

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = ".partial"  # ends the name of a file that is still being written
# Also as names were before they had a random part.
_PARTIAL = re.compile(r"\..*\.(?P<process>\d+)(-[0-9a-f]{8})?" + re.escape(MARK))


def partial_name(name: str) -> str:
    """A name beside `name` for what this process still writes; `remove_stale` knows it."""
    # It is short, since `name` may be as long as the file system allows.
    return f".{name[:40]}.{os.getpid()}-{uuid.uuid4().hex[:8]}{MARK}"


@contextmanager
def replacing(target: Path, keep: Path | None = None) -> Iterator[Path]:
    """A path to write to, which takes the place of `target` when the block succeeds, and vanishes if not.

    keep: where the file that was there stays. Makes the folder of `target`. Raises OSError when the disk does
    not take the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(partial_name(target.name))
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        if keep is not None and target.exists():
            _keep(target, keep)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write `text` to `target` in UTF-8, at once. Raises OSError."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def remove_stale(folder: Path, older_than: float = 0.0) -> None:
    """Remove what killed processes have left half written in `folder`. What cannot be removed stays.

    Processes are those of this machine: where others write to the folder, too, only what is `older_than` so
    many seconds is sure to be nobody's.
    """
    import psutil

    for path in folder.glob(f".*{MARK}"):
        name = _PARTIAL.fullmatch(path.name)
        with contextlib.suppress(OSError):
            if name is None or time.time() - path.stat().st_mtime < older_than:
                continue
            if psutil.pid_exists(int(name["process"])):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _keep(target: Path, keep: Path) -> None:
    """Give the file at `target` the name `keep` as well, so that a kill never leaves `target` missing."""
    keep.unlink(missing_ok=True)
    try:
        os.link(target, keep)
    except OSError:  # a file system without such names; `keep` is whole while `target` is missing
        target.replace(keep)
