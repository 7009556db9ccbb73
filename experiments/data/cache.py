"""The cache on disk: 16-bit audio in memory-mapped shard files beside one index. Written once, atomically."""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from experiments.common.file_lock import locked as locked
from experiments.common.user_cache import cache_directory as cache_directory

FORMAT = 1
SPLITS = ("train", "validation", "test")
SHARD_SAMPLES = 2**28  # 512 MiB a file
FULL_CHECK_BYTES = 2**30  # a larger cache is checked by sizes and by the ends of its files only
END_BYTES = 2**16


class CacheError(ValueError):
    """A cache directory that does not hold what its index says."""


@dataclass
class Columns:
    """The clips of one split, a list a column: `shards` and `starts` say where, `samples` how long."""

    names: list[str] = field(default_factory=list)
    speakers: list[str] = field(default_factory=list)
    shards: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    rms: list[float] = field(default_factory=list)


@dataclass
class ShardFile:
    file: str
    bytes: int
    sha256: str
    ends: str  # digest of the first and last END_BYTES


@dataclass
class Index:
    name: str
    sample_rate: int
    synthetic: bool
    licence: str
    notes: str
    splits: dict[str, Columns]
    files: dict[str, list[ShardFile]]
    report: list[tuple[str, str, str]]  # name, "noted" or "skipped", why
    format: int = FORMAT
    _hash: ClassVar[str] = (
        ""  # of an index that does not change any more: of a million clips it takes seconds
    )

    def content_hash(self) -> str:
        """Digest of the audio and of the index, free of paths, times and of the corpus's own name."""
        return self._hash or self._digest()

    def _digest(self) -> str:
        audio = {split: [file.sha256 for file in files] for split, files in self.files.items()}
        clips = {split: asdict(columns) for split, columns in self.splits.items()}
        return _digest(json.dumps([self.sample_rate, audio, clips], sort_keys=True).encode())

    def write(self, directory: Path) -> None:
        text = json.dumps({"content_hash": self.content_hash(), **asdict(self)})
        with (directory / "index.json").open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, directory: Path) -> "Index":
        """The index of a finished cache directory, checked. Raises `CacheError` if anything is amiss."""
        try:
            values: dict[str, Any] = json.loads((directory / "index.json").read_text(encoding="ascii"))
            if values["format"] != FORMAT:
                raise CacheError(f"format {values['format']}, this version reads {FORMAT}")
            stored = values.pop("content_hash")
            values["splits"] = {split: Columns(**columns) for split, columns in values["splits"].items()}
            values["files"] = {
                split: [ShardFile(**file) for file in files] for split, files in values["files"].items()
            }
            values["report"] = [(str(name), str(status), str(why)) for name, status, why in values["report"]]
            index = cls(**values)
        except CacheError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CacheError(f"index.json is damaged ({type(error).__name__})") from error
        if index.content_hash() != stored:
            raise CacheError("index.json does not match its content hash")
        index._hash = stored  # type: ignore[misc]
        files = [file for group in index.files.values() for file in group]
        full = sum(file.bytes for file in files) <= FULL_CHECK_BYTES
        for file in files:
            check(directory / file.file, file, full)
        return index


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ends_of(path: Path, size: int) -> str:
    with path.open("rb") as file:
        head = file.read(END_BYTES)
        file.seek(max(0, size - END_BYTES))
        return _digest(head + file.read(END_BYTES))


def check(path: Path, expected: ShardFile, full: bool) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CacheError(f"{path.name} is missing") from error
    if size != expected.bytes:
        raise CacheError(f"{path.name} has {size} bytes instead of {expected.bytes}")
    if full:
        with path.open("rb") as file:
            intact = hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256
    else:
        intact = ends_of(path, size) == expected.ends
    if not intact:
        raise CacheError(f"{path.name} does not match its checksum")


@contextlib.contextmanager
def atomic_directory(target: Path, alone: bool) -> Iterator[Path]:
    """A temporary directory that takes the place of `target` if the block succeeds, and vanishes if not.

    What a killed predecessor left is removed if this process is known to be `alone` (see `locked`).
    """
    for stale in target.parent.glob(f".{target.name}.partial-*") if alone else ():
        shutil.rmtree(stale, ignore_errors=True)
    partial = target.with_name(f".{target.name}.partial-{uuid.uuid4().hex[:12]}")
    partial.mkdir(parents=True)
    try:
        yield partial
        _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, target: Path) -> None:
    """Give a finished directory its name. Where another process was first, its one stays."""
    if target.exists():
        shutil.rmtree(target, ignore_errors=True)
    try:
        partial.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def staged_directory(target: Path, alone: bool, keep: Callable[[Path], bool]) -> Iterator[Path]:
    """A directory that takes the place of `target` if the block succeeds. If it fails, and where the process
    is killed, it stays for the next try where `keep` says so, and else vanishes.

    Only a process that is known to be `alone` (see `locked`) uses what another has left.
    """
    partial = target.with_name(f".{target.name}.partial")
    if not alone:
        partial = partial.with_name(f"{partial.name}-{uuid.uuid4().hex[:12]}")
    else:
        stale = [] if keep(partial) else [partial]
        for path in (*stale, *target.parent.glob(f"{partial.name}-*")):
            shutil.rmtree(path, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        _put_in_place(partial, target)
    except BaseException:
        if not (alone and keep(partial)):
            shutil.rmtree(partial, ignore_errors=True)
        raise
