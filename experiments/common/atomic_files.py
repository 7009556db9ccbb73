"""Atomic files: written beside their place, flushed to the disk, then renamed into it.

A process that is killed at any moment leaves the old file or the new one, whole.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = ".partial"  # ends the name of a file that is still being written


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `target` when the block succeeds, and vanishes if not.

    Makes the folder of `target`. Raises OSError when the disk does not take the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name is short, since that of `target` may be as long as the file system allows.
    partial = target.with_name(f".{target.name[:40]}.{os.getpid()}-{uuid.uuid4().hex[:8]}{MARK}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write `text` to `target` in UTF-8, at once. Raises OSError."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")
