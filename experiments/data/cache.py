"""The cache on disk: 16-bit audio in memory-mapped shard files beside one index. Written once, atomically."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from experiments.common.file_lock import locked as locked
from experiments.data.signal import Int16, rms

FORMAT = 1
SPLITS = ("train", "validation", "test")
SHARD_SAMPLES = 2**28  # 512 MiB a file
FULL_CHECK_BYTES = 2**30  # a larger cache is checked by sizes and by the ends of its files only
END_BYTES = 2**16


def cache_directory() -> Path:
    """$CODECBENCH_CACHE, else `codecbench` in the user's cache directory of this system."""
    if chosen := os.environ.get("CODECBENCH_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "codecbench"


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

    def content_hash(self) -> str:
        """Digest of the audio and of the index, free of paths, times and of the corpus's own name."""
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
        files = [file for group in index.files.values() for file in group]
        full = sum(file.bytes for file in files) <= FULL_CHECK_BYTES
        for file in files:
            _check(directory / file.file, file, full)
        return index


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _ends(path: Path, size: int) -> str:
    with path.open("rb") as file:
        head = file.read(END_BYTES)
        file.seek(max(0, size - END_BYTES))
        return _digest(head + file.read(END_BYTES))


def _check(path: Path, expected: ShardFile, full: bool) -> None:
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
        intact = _ends(path, size) == expected.ends
    if not intact:
        raise CacheError(f"{path.name} does not match its checksum")


class Writer:
    """Appends clips to the shard files of a directory, and gathers the columns and files of the index."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.splits = {split: Columns() for split in SPLITS}
        self.files: dict[str, list[ShardFile]] = {split: [] for split in SPLITS}
        self._open: dict[str, tuple[Path, BinaryIO, Any, int]] = {}

    def add(self, split: str, name: str, speaker: str, audio: Int16) -> None:
        """Append one clip, int16 [samples]."""
        path, file, digest, filled = self._open.get(split) or self._start(split)
        if filled and filled + len(audio) > SHARD_SAMPLES:
            self._close(split)
            path, file, digest, filled = self._start(split)
        data = np.ascontiguousarray(audio, dtype="<i2").tobytes()
        file.write(data)
        digest.update(data)
        columns = self.splits[split]
        columns.names.append(name)
        columns.speakers.append(speaker)
        columns.shards.append(len(self.files[split]))
        columns.starts.append(filled)
        columns.samples.append(len(audio))
        columns.rms.append(rms(audio))
        self._open[split] = (path, file, digest, filled + len(audio))

    def _start(self, split: str) -> tuple[Path, BinaryIO, Any, int]:
        path = self.directory / f"{split}-{len(self.files[split]):04d}.i16"
        self._open[split] = (path, path.open("wb"), hashlib.sha256(), 0)
        return self._open[split]

    def _close(self, split: str) -> None:
        path, file, digest, _ = self._open.pop(split)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        size = path.stat().st_size
        self.files[split].append(ShardFile(path.name, size, digest.hexdigest(), _ends(path, size)))

    def finish(self) -> None:
        for split in list(self._open):
            self._close(split)

    def abandon(self) -> None:
        for _, file, _, _ in self._open.values():
            file.close()


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
        if target.exists():
            shutil.rmtree(target, ignore_errors=True)
        try:
            partial.rename(target)
        except OSError:
            if not target.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
