"""Corpora of WebDataset tar shards: training shards are streamed, the others prepared like files."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path

from experiments.data.cache import SPLITS
from experiments.data.corpus import Clip, DataError, Progress
from experiments.data.parallel_decoding import Source, decoded
from experiments.data.sources import tar_patterns
from experiments.data.sources.tar_samples import Shard, samples_of

REVISION = 1  # of the list of training shards, which is part of the identity of runs
PREPARED_REVISION = 2  # raise when the same validation and test shards would give other clips
FORM = "webdataset:PATTERN or webdataset:train=PATTERN,validation=PATTERN,test=PATTERN"


class TarCorpus:
    """Training shards that are streamed, and validation and test shards that are prepared like files."""

    synthetic = False
    native_rate: int | None = None
    licence = "not stated"
    notes = "Training audio is streamed from tar shards."

    def __init__(self, patterns: dict[str, str]) -> None:
        require_webdataset()
        self.notes_on: list[Clip] = []
        listed = {split: self._list(pattern) for split, pattern in patterns.items()}
        self.shards = _dealt(listed[""]) if "" in listed else _named(listed)
        names = [shard.name for shard in self.shards["train"]]
        stem = os.path.commonprefix(names)  # noqa: RUF071 - letters, not folders
        self.name = f"webdataset:{stem.rstrip('-_.0123456789') or 'shards'}"

    def _list(self, pattern: str) -> list[Shard]:
        listed = tar_patterns.shards_of(pattern)
        self.notes_on += [Clip(name, "", "train", None, why) for name, why in listed.left_out]
        return listed.shards

    def fingerprint(self) -> str:
        """Digest of what is prepared: the training shards are not."""
        return self._digest(PREPARED_REVISION, "validation", "test")

    @cached_property
    def training_fingerprint(self) -> str:
        """Digest of the list of training shards: names, order, sizes, and ETags of a web server."""
        return self._digest(REVISION, "train")

    def _digest(self, revision: int, *splits: str) -> str:
        listed = [(split, shard.name, shard.state) for split in splits for shard in self.shards[split]]
        return hashlib.sha256(json.dumps([revision, listed]).encode()).hexdigest()

    def __len__(self) -> int:
        return 0  # not known before all is read

    def listed_splits(self) -> frozenset[str]:
        return frozenset(split for split, shards in self.shards.items() if shards)

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Fetches nothing: shards are read where they are."""

    def items(self, sample_rate: int, start: int = 0) -> Iterator[list[Clip]]:
        """Clips of each sample of validation and test, decoded a few at once. The remarks of before are the
        first items; samples before `start` are read, but not decoded."""
        yield from ([note] for note in self.notes_on[start:])
        yield from decoded(islice(self._held_out(), max(0, start - len(self.notes_on)), None), sample_rate)

    def _held_out(self) -> Iterator[Source]:
        for split in ("validation", "test"):
            for shard in self.shards[split]:
                for sample in samples_of(shard, split):
                    yield Source(sample.name, sample.speaker, split, sample.audio, sample.why)


def parse(rest: str) -> TarCorpus:
    """The corpus of `rest`, one pattern or three named ones. Raises DataError, also where a web server does
    not answer."""
    parts = re.split(r"(?:^|,)(train|validation|test)=", rest)
    if not rest or (len(parts) > 1 and parts[0]):
        raise DataError(f"corpus 'webdataset:{rest}' lacks its shards: write {FORM}")
    if len(parts) == 1:
        return TarCorpus({"": rest})
    patterns = dict(zip(parts[1::2], parts[2::2], strict=True))
    missing = [name for name in SPLITS if not patterns.get(name)]
    if missing or len(parts) != 2 * len(SPLITS) + 1:
        raise DataError(f"corpus 'webdataset:{rest}' must name each split once: write {FORM}")
    return TarCorpus(patterns)


def require_webdataset() -> None:
    """Raises DataError where the library is not installed."""
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise DataError(
            "webdataset: corpora need the library of that name. Remedy: pip install 'codecbench[webdataset]'."
        ) from error


def _named(listed: dict[str, list[Shard]]) -> dict[str, list[Shard]]:
    shards = {split: listed[split] for split in SPLITS}
    seen: dict[str, str] = {}
    for split, members in shards.items():
        for shard in members:
            if shard.address in seen:
                raise DataError(
                    f"webdataset: {shard.address} is in {seen[shard.address]} and in {split}. "
                    "Remedy: name shards of their own for each split."
                )
            seen[shard.address] = split
    return shards


def _dealt(shards: list[Shard]) -> dict[str, list[Shard]]:
    """One shard for test and one for validation, by a hash of the names; the others train."""
    if len(shards) < 3:
        raise DataError(
            f"webdataset: {len(shards)} shard(s) cannot be dealt out to train, validation and test. "
            "Remedy: give three or more, or name the splits: train=PATTERN,validation=PATTERN,test=PATTERN."
        )
    order = sorted(shards, key=lambda shard: hashlib.sha256(shard.name.encode()).digest())
    held_out = {order[0].address, order[1].address}
    train = [shard for shard in shards if shard.address not in held_out]
    return {"train": train, "validation": [order[1]], "test": [order[0]]}
