"""Corpora in tar archives as they are published, read where they are and prepared like files."""

import hashlib
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from experiments.data import formats
from experiments.data.cache import SPLITS
from experiments.data.corpus import Clip, DataError, Progress
from experiments.data.parallel_decoding import Source, decoded
from experiments.data.sources import layouts, tar_patterns
from experiments.data.sources.layouts import Place
from experiments.data.sources.tar_samples import TEXT_ONLY, Shard, listed
from experiments.data.sources.tar_shards import require_webdataset
from experiments.data.splitting import Entry, assign_splits, without_splits

REVISION = 1  # raise when the same archives would give other clips


class Archives:
    """Tar archives on this disk. They are read twice: for names and what the corpus says of them, then for
    audio."""

    synthetic = False
    native_rate: int | None = None
    licence = "not stated"
    notes = ""

    def __init__(self, name: str, shards: list[Shard], notes_on: list[Clip]) -> None:
        self.name, self.shards, self.notes_on = name, shards, notes_on
        self._places: dict[tuple[str, str], Place] = {}
        self._length = 0

    def fingerprint(self) -> str:
        """Digest of the archives' names and sizes: nothing is read."""
        known = [(shard.name, shard.state) for shard in self.shards]
        return hashlib.sha256(json.dumps(["tar", REVISION, known]).encode()).hexdigest()

    def __len__(self) -> int:
        return self._length

    def listed_splits(self) -> frozenset[str]:
        return frozenset(SPLITS)  # not known before all is read

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Read the names in the archives, and assign speakers and splits.

        Raises DataError where there is no audio in them, or too little to share out.
        """
        members: list[tuple[str, str]] = []
        metadata: dict[str, layouts.Read] = {}
        for number, shard in enumerate(self.shards):
            if progress:
                progress("listing archives", number, len(self.shards))
            for name, content in listed(shard, layouts.METADATA):
                if content is not None:
                    metadata[name] = _Kept(name, content)
                elif formats.is_readable(Path(name)):
                    members.append((shard.name, name))
        if not members:
            raise DataError(f"{self.name}: no audio in {len(self.shards)} archive(s)")
        names = [name for _, name in members]
        arrangement = layouts.arranged(names, metadata)
        places = arrangement.places if arrangement else [Place("", "")] * len(names)
        kept = [
            (member, Entry("/".join(member), place.speaker, place.split, Path()))
            for member, place in zip(members, places, strict=True)
            if place is not None
        ]
        entries = [entry for _, entry in kept]
        assigned = assign_splits(entries if all(e.split for e in entries) else without_splits(entries))
        self._places = {
            member: Place(entry.speaker, entry.split)
            for (member, _), entry in zip(kept, assigned, strict=True)
        }
        self.notes_on += arrangement.notes if arrangement else []
        self._length = len(self.notes_on) + len(members)

    def items(self, sample_rate: int, start: int = 0) -> Iterator[list[Clip]]:
        """Clips of each sample, decoded a few at once. The remarks of before are the first items; samples
        before `start` are read, but not decoded."""
        yield from ([note] for note in self.notes_on[start:])
        yield from decoded(islice(self._sources(), max(0, start - len(self.notes_on)), None), sample_rate)

    def _sources(self) -> Iterator[Source]:
        for shard in self.shards:
            for sample in shard.samples(""):
                if sample.member:
                    if (place := self._places.get((shard.name, sample.member))) is not None:
                        yield Source(sample.name, place.speaker, place.split, sample.audio)
                elif sample.why != TEXT_ONLY:
                    yield Source(sample.name, "", "train", None, sample.why)


class _Kept:
    """What is needed of a file that says something of others: of the many `.json`, speaker and split."""

    def __init__(self, name: str, content: bytes) -> None:
        if name.endswith(".json"):
            place = layouts.of_json(content)
            content = json.dumps(place._asdict()).encode() if place else b""
        self._content = content

    def __call__(self) -> bytes:
        return self._content


def archives(pattern: str) -> Archives:
    """The archives that `pattern` names, with braces, `*` and `?`. Raises DataError."""
    require_webdataset()
    listing = tar_patterns.shards_of(pattern)
    if any(shard.remote for shard in listing.shards):
        raise DataError(
            f"tar:{pattern}: archives on a server would be read twice. "
            "Remedy: download them, or stream them by tar-stream:PATTERN."
        )
    names = [shard.name for shard in listing.shards]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise DataError(f"tar:{pattern}: two archives are called {twice!r}. Remedy: rename one of them.")
    stem = os.path.commonprefix(names)  # noqa: RUF071 - letters, not folders
    stem = stem.removesuffix(".gz").removesuffix(".tar").rstrip("-_.0123456789")
    notes_on = [Clip(name, "", "train", None, why) for name, why in listing.left_out]
    return Archives(f"tar:{stem or 'archives'}", listing.shards, notes_on)
