"""Output files and folders of commands: checked before any work, and never the reason to lose a result."""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

STANDARD_STREAM = "-"  # in place of a file: stdin or stdout

_REMEDIES = {
    errno.EACCES: "change its permissions, or give another place",
    errno.EPERM: "change its permissions, or give another place",
    errno.EROFS: "that disk is read-only; give another place",
    errno.ENOSPC: "make room on that disk, or give a place on another",
    errno.EDQUOT: "make room in your quota, or give a place on another disk",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.ENOTDIR: "a file stands where a folder is needed; give another path",
    errno.EEXIST: "a file stands where a folder is needed; give another path",
    errno.ENOTEMPTY: "give the name of a folder that is empty, or of a new one",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "it is a link to itself; give another path",
    errno.ENOENT: "see that it exists, and that its folder was not removed meanwhile",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system has too many open files",
    errno.EFBIG: "the file would be larger than is allowed (ulimit -f); give another place",
    errno.EBUSY: "another program uses it; close that, or give another place",
    errno.EIO: "the disk has failed; give a place on another",
}


class OutputError(ValueError):
    """An output cannot be written; the message names the file and the remedy."""


def is_explained(error: OSError) -> bool:
    """Whether `explanation` can name the remedy."""
    return error.errno in _REMEDIES


def explanation(error: OSError, path: object = None) -> str:
    """One line about `error`: the file (`path`, or the one that it names), the reason, the remedy."""
    place = path if path is not None else error.filename
    reason = (error.strerror or str(error) or type(error).__name__).strip().rstrip(".")
    remedy = _REMEDIES.get(error.errno or 0, "")
    return (f"{place}: " if place is not None else "") + reason + (f"; {remedy}" if remedy else "")


def check_folder(folder: Path, option: str = "--output") -> None:
    """See that `folder` can be made and written to; leaves no trace. Raises OutputError."""
    try:
        _try_to_write(folder)
    except OSError as error:
        raise OutputError(f"{option} {folder}: cannot write there: {explanation(error)}") from None


def check_file(path: Path | None, option: str = "--output", suffixes: Iterable[str] = ()) -> None:
    """See that the file at `path` can be written; leaves no trace. None is no file, and fine.

    suffixes: those that the name may end in, such as `.csv`. Raises OutputError.
    """
    if path is None:
        return
    allowed = tuple(suffixes)
    if allowed and path.suffix not in allowed:
        last = f" or {allowed[-1]}" if len(allowed) > 1 else allowed[-1]
        raise OutputError(f"{option} {path}: give a file that ends in {', '.join(allowed[:-1])}{last}")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        if path.exists() and not path.is_file():  # such as /dev/stdout
            return
        _check_name(path)
        _try_to_write(path.parent)
        if path.exists():
            with path.open("ab"):
                pass
    except OSError as error:
        raise OutputError(f"{option} {path}: cannot write there: {explanation(error)}") from None


def save(path: Path, write: Callable[[Path], object]) -> str:
    """Let `write` write to `path`, or to a new temporary folder where that fails.

    Returns an empty text, or the message that says why it failed and where the file was put instead. Raises
    OSError when neither place takes it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    except OSError as error:
        rescued = Path(tempfile.mkdtemp(prefix="codecbench-")) / path.name[-80:]
        write(rescued)
        return f"cannot write {explanation(error, path)}. It was written to {rescued} instead"
    return ""


def _try_to_write(folder: Path) -> None:
    """Write to a nameless file in `folder`, or in the nearest folder above it that exists. Raises OSError."""
    place = folder.absolute()
    while not place.exists():
        if place.is_symlink():
            raise FileNotFoundError(errno.ENOENT, "a link to nothing", str(place))
        if place.parent == place:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(place))
        _check_name(place)
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(place))
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from None


def _check_name(path: Path) -> None:
    """See that the disk would take the last name of `path`. Raises OSError."""
    if len(path.name.encode("utf-8", "surrogateescape")) > 255:
        raise OSError(errno.ENAMETOOLONG, "File name too long", str(path))


def save_folder(source: Path, target: Path) -> str:
    """Copy the files of the folder `source` into the folder `target`, as `save` does a file."""
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        rescued = Path(tempfile.mkdtemp(prefix="codecbench-")) / target.name[:80]
        shutil.copytree(source, rescued)
        reason = (
            explanation(error, target) if error.errno is not None else f"{target}: {_first_reason(error)}"
        )
        return f"cannot write {reason}. It was written to {rescued} instead"
    return ""


def named_after(prefix: str, study: str, suffix: str = "") -> Path:
    """A path in the working folder that is named after a study, whatever its name holds."""
    name = re.sub(r"[^\w.-]+", "_", study).strip(".") or "study"
    return Path(f"{prefix}{name[:200]}{suffix}")


def _first_reason(error: OSError) -> str:
    """The reason of the first file that `shutil.copytree` could not copy."""
    problems = error.args[0] if error.args and isinstance(error.args[0], list) else [("", "", error)]
    return str(problems[0][2])
