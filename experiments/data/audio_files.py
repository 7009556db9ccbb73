"""Files on disk: which of a folder's are audio, and opening one without waiting for what is no file."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.data import formats
from experiments.data.corpus import DataError

_KINDS = (
    (stat.S_ISDIR, "a folder, not a file"),
    (stat.S_ISFIFO, "a named pipe, not a file"),
    (stat.S_ISSOCK, "a socket, not a file"),
    (stat.S_ISCHR, "a device, not a file"),
    (stat.S_ISBLK, "a device, not a file"),
)


class UnreadableFile(OSError):
    """A file that cannot be read; the message is the reason, without the file's name."""


class FolderListing(NamedTuple):
    """Audio files below a folder. left_out: (path, reason) of what looks like audio and is not read.
    others: files with the endings that were asked for. folders: all that were listed."""

    audio: list[Path]
    left_out: list[tuple[Path, str]]
    others: list[Path]
    folders: list[Path]


def audio_below(folder: Path, endings: tuple[str, ...] = ()) -> FolderListing:
    """Files below `folder` by their names alone: none is opened. Hidden files and folders are passed over.

    Linked folders are not followed, since they may lead in a circle; they and folders that cannot be read
    are left out.
    """
    listing = FolderListing([], [], [], [])

    def unreadable(error: OSError) -> None:
        listing.left_out.append((Path(os.fsdecode(error.filename)), f"folder not readable: {error.strerror}"))

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(parent)
        listing.folders.append(here)
        for name in sorted(folders):
            if not name.startswith(".") and (here / name).is_symlink():
                listing.left_out.append((here / name, "a link to a folder, which is not followed"))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (here / name for name in files if not name.startswith(".")):
            if formats.is_readable(path):
                listing.audio.append(path)
            elif formats.is_foreign(path):
                listing.left_out.append((path, formats.foreign_reason(path)))
            elif path.name.endswith(endings):
                listing.others.append(path)
    return listing


def expanded(text: str) -> Path:
    """The path that a user wrote, its `~` replaced. Raises DataError for a user that there is not."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise DataError(f"{text[:200]!r}: {error}") from error


def reason(error: Exception) -> str:
    """Reason in a few words for which a file was not read, without its name."""
    if isinstance(error, MemoryError):
        return "out of memory"
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    lines = str(text).strip().splitlines()
    return lines[0].removeprefix("Error : ")[:200].rstrip(".") if lines else "damaged"


def folder_problem(path: Path) -> str:
    """Reason for which `path` is no folder; empty where it is one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to nothing" if path.is_symlink() else "no such folder"
    except (OSError, ValueError) as error:
        return _absence(path, error)
    return "" if stat.S_ISDIR(mode) else "a file, not a folder" if stat.S_ISREG(mode) else "not a folder"


def is_listed(path: Path) -> bool:
    """Tell whether something bears this name that is no folder, be it a file or not."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except ValueError:
        return False
    except OSError:
        with contextlib.suppress(OSError):
            return bool(path.lstat())
        return False


def problem(path: Path) -> str:
    """Reason for which `path` is no regular file, links followed; empty where it is one. Opens nothing."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        return _absence(path, error)
    return _not_regular(mode)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of the regular file `path`, open for reading. Never waits, as opening a pipe would.

    Raises UnreadableFile.
    """
    if why := problem(path):
        raise UnreadableFile(why)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise UnreadableFile(reason(error)) from error
    try:
        # Another file may have taken the place of the one that was looked at.
        if why := _not_regular(os.fstat(descriptor).st_mode):
            raise UnreadableFile(why)
        yield descriptor
    finally:
        os.close(descriptor)


def _absence(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):  # a NUL in it
        return "its name is none that a file can have"
    if error.errno == errno.ELOOP:
        return "a link that leads in a circle"
    if error.errno == errno.ENOENT and path.is_symlink():
        return "a link to nothing: No such file or directory"
    return reason(error)


def _not_regular(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "not a file")
