"""Writing of prepared audio: shard files, and a journal from which a killed preparation goes on."""

import hashlib
import json
import logging
import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from experiments.data import cache as files
from experiments.data.cache import SPLITS, CacheError, Columns, ShardFile
from experiments.data.corpus import Clip
from experiments.data.signal import Int16, rms

JOURNAL = "journal.jsonl"
JOURNAL_SECONDS = 30.0  # between two entries: so much work is lost, at most
MOST_WAITING = 32  # clips between the decoding threads and the disk
_CHUNK = 2**20

_log = logging.getLogger("codecbench.data")


def has_journal(directory: Path) -> bool:
    """Whether a killed preparation left something in `directory` to go on from."""
    journal = directory / JOURNAL
    return journal.is_file() and journal.stat().st_size > 0


@dataclass
class _Shard:
    """A shard file that is being written. samples: given to it so far."""

    path: Path
    file: BinaryIO
    digest: Any = field(default_factory=hashlib.sha256)
    samples: int = 0

    def write(self, audio: Int16) -> None:
        data = np.ascontiguousarray(audio, dtype="<i2").data
        self.file.write(data)
        self.digest.update(data)

    def sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())


class Writer:
    """Appends clips to the shard files of a directory, and gathers the columns and files of the index.

    Writing and SHA-256 have a thread of their own, and levels are computed where audio is decoded, so the
    caller only deals out work. Each `JOURNAL_SECONDS`, after the audio is on the disk, what was added since
    goes into a journal. A writer that finds one goes on behind its last entry: `done` items are written, and
    the files are cut to what they held then. As a context, it closes its files at the end.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._reset()
        self._waiting: deque[Future[None]] = deque()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._journalled = time.monotonic()
        if has_journal(directory):
            try:
                self._resume()
                _log.info("going on with a preparation after %d files", self.done)
            except (CacheError, OSError, ValueError, KeyError, TypeError) as error:
                _log.warning("a preparation that was stopped cannot go on (%s): beginning again", error)
                self._abandon()
                self._reset()
                self.forget()

    def _reset(self) -> None:
        self.done = 0
        self.splits = {split: Columns() for split in SPLITS}
        self.files: dict[str, list[ShardFile]] = {split: [] for split in SPLITS}
        self.report: list[tuple[str, str, str]] = []  # name, "noted" or "skipped", why
        self._open: dict[str, _Shard] = {}
        self._told = dict.fromkeys(SPLITS, 0)  # clips that the journal knows
        self._told_report = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._disk.shutdown(cancel_futures=True)
        self._abandon()

    def add(self, clip: Clip) -> None:
        """Append one clip, or note why there is none."""
        if clip.note:
            self.report.append((clip.name, "skipped" if clip.audio is None else "noted", clip.note))
        if clip.audio is None:
            return
        split, audio = clip.split, clip.audio
        shard = self._open.get(split) or self._start(split)
        if shard.samples and shard.samples + len(audio) > files.SHARD_SAMPLES:
            self._close(split)
            shard = self._start(split)
        columns = self.splits[split]
        columns.names.append(clip.name)
        columns.speakers.append(clip.speaker)
        columns.shards.append(len(self.files[split]))
        columns.starts.append(shard.samples)
        columns.samples.append(len(audio))
        columns.rms.append(rms(audio) if clip.level is None else clip.level)
        shard.samples += len(audio)
        self._waiting.append(self._disk.submit(shard.write, audio))
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft().result()

    def end_item(self) -> None:
        """All clips of one more item of the corpus are added."""
        self.done += 1
        if time.monotonic() - self._journalled >= JOURNAL_SECONDS:
            self._write_journal()

    def finish(self) -> None:
        """Close all files."""
        for split in list(self._open):
            self._close(split)

    def forget(self) -> None:
        """Remove the journal: there is nothing to go on with."""
        (self.directory / JOURNAL).unlink(missing_ok=True)

    def _settle(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()

    def _start(self, split: str) -> _Shard:
        path = self.directory / f"{split}-{len(self.files[split]):04d}.i16"
        self._open[split] = _Shard(path, path.open("wb"))
        return self._open[split]

    def _close(self, split: str) -> None:
        self._settle()
        shard = self._open.pop(split)
        shard.sync()
        shard.file.close()
        size = shard.path.stat().st_size
        self.files[split].append(
            ShardFile(shard.path.name, size, shard.digest.hexdigest(), files.ends_of(shard.path, size))
        )

    def _abandon(self) -> None:
        for shard in self._open.values():
            shard.file.close()

    def _write_journal(self) -> None:
        """Add an entry. Audio goes to the disk before the line that speaks of it."""
        self._settle()
        for shard in self._open.values():
            shard.sync()
        clips = {
            split: {name: column[self._told[split] :] for name, column in vars(columns).items()}
            for split, columns in self.splits.items()
        }
        entry = {
            "done": self.done,
            "clips": clips,
            "files": {split: [asdict(file) for file in made] for split, made in self.files.items()},
            "open": {split: shard.samples for split, shard in self._open.items()},
            "report": self.report[self._told_report :],
        }
        with (self.directory / JOURNAL).open("a", encoding="ascii") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._told = {split: len(columns.names) for split, columns in self.splits.items()}
        self._told_report = len(self.report)
        self._journalled = time.monotonic()

    def _resume(self) -> None:
        """Go on behind the last whole entry of the journal. Raises CacheError where the files do not fit."""
        path = self.directory / JOURNAL
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if not whole:
            raise CacheError("its journal is empty")
        entry: dict[str, Any] = {}
        for line in whole.splitlines():
            entry = json.loads(line)
            for split, columns in entry["clips"].items():
                for name, column in columns.items():
                    getattr(self.splits[split], name).extend(column)
            self.report += [(str(name), str(status), str(why)) for name, status, why in entry["report"]]
        os.truncate(path, len(whole))
        self.done = int(entry["done"])
        self.files = {split: [ShardFile(**file) for file in made] for split, made in entry["files"].items()}
        for made in self.files.values():
            for file in made:
                files.check(self.directory / file.file, file, full=False)
        for split, samples in entry["open"].items():
            self._reopen(split, samples)
        self._told = {split: len(columns.names) for split, columns in self.splits.items()}
        self._told_report = len(self.report)

    def _reopen(self, split: str, samples: int) -> None:
        path = self.directory / f"{split}-{len(self.files[split]):04d}.i16"
        if path.stat().st_size < 2 * samples:
            raise CacheError(f"{path.name} is shorter than its journal says")
        os.truncate(path, 2 * samples)
        shard = self._open[split] = _Shard(path, path.open("ab"), samples=samples)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                shard.digest.update(chunk)
