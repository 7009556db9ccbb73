"""Corpora whose training audio is streamed from shards, while validation and test are prepared like files."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from experiments.data.corpus import Clip, Progress
from experiments.data.parallel_decoding import Source, decoded
from experiments.data.sources.tar_samples import TEXT_ONLY, Sample, SampleShard
from experiments.data.splitting import hashed_split

REVISION = 1  # of the list of training shards, which is part of the identity of runs
PREPARED_REVISION = 2  # raise when the same validation and test shards would give other clips


@dataclass(frozen=True)
class Trains:
    """Tell which samples of a stream train: none of a speaker who is held out.

    within: shards hold all splits, see `home`.
    """

    held_out: frozenset[str]
    within: bool

    def __call__(self, sample: Sample) -> bool:
        speaker = sample.place.speaker
        if speaker and speaker in self.held_out:
            return False
        return not self.within or home(sample) == "train"


def home(sample: Sample) -> str:
    """The split of a sample of a shard that holds all splits: as its path or `.json` says, else by a hash of
    its speaker or, where unknown, of its name."""
    place = sample.place
    return place.split or hashed_split(f"speaker {place.speaker}" if place.speaker else sample.name)


class StreamedCorpus:
    """Training shards that are streamed, and shards of validation and test that are prepared.

    apart: speakers are taken from paths, too, and one who is held out does not train. within: the shards hold
    all splits together.
    """

    synthetic = False
    native_rate: int | None = None
    licence = "not stated"

    def __init__(
        self,
        name: str,
        shards: Mapping[str, Sequence[SampleShard]],
        *,
        apart: bool = False,
        within: bool = False,
        notes: str = "Training audio is streamed from tar shards.",
        notes_on: Iterable[Clip] = (),
    ) -> None:
        self.name, self.shards, self.notes = name, shards, notes
        self.apart, self.within, self.notes_on = apart, within, list(notes_on)

    def fingerprint(self) -> str:
        """Digest of what is prepared: the training shards are not."""
        return self._digest(PREPARED_REVISION, "validation", "test")

    @cached_property
    def training_fingerprint(self) -> str:
        """Digest of the list of training shards: names, order, sizes, and ETags of a web server."""
        return self._digest(REVISION, "train")

    def _digest(self, revision: int, *splits: str) -> str:
        listed = [(split, shard.name, shard.state) for split in splits for shard in self.shards[split]]
        rules = [rule for rule in ("apart", "within") if getattr(self, rule)]
        return hashlib.sha256(json.dumps([revision, listed, *rules]).encode()).hexdigest()

    def __len__(self) -> int:
        return 0  # not known before all is read

    def listed_splits(self) -> frozenset[str]:
        return frozenset(split for split, shards in self.shards.items() if shards)

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Fetches nothing: shards are read where they are."""

    def trains(self, held_out: Iterable[str]) -> Trains | None:
        """Tell which samples train, where speakers in `held_out` are in validation or test; None for all."""
        return Trains(frozenset(filter(None, held_out)), self.within) if self.apart else None

    def items(self, sample_rate: int, start: int = 0) -> Iterator[list[Clip]]:
        """Clips of each sample of validation and test, decoded a few at once. The remarks of before are the
        first items; samples before `start` are read, but not decoded."""
        yield from ([note] for note in self.notes_on[start:])
        sources = self._apart(self._held_out()) if self.apart else self._held_out()
        yield from decoded(islice(sources, max(0, start - len(self.notes_on)), None), sample_rate)

    def _held_out(self) -> Iterator[Source]:
        for split in ("validation",) if self.within else ("validation", "test"):
            for shard in self.shards[split]:
                for sample in shard.samples("" if self.within else split):
                    kept = home(sample) if self.within else split
                    if kept == "train" or sample.why == TEXT_ONLY:
                        continue
                    speaker = sample.place.speaker if self.apart else sample.speaker
                    yield Source(sample.name, speaker, kept, sample.audio, sample.why)

    def _apart(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources, without the audio of speakers whom another split has already."""
        homes: dict[str, str] = {}
        for source in sources:
            known = homes.setdefault(source.speaker, source.split) if source.speaker else source.split
            if known == source.split:
                yield source
            else:
                why = f"its speaker {source.speaker} is in {known}"
                yield source._replace(audio=None, why=why)
