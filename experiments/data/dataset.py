"""Prepared audio as training and evaluation read it: memory-mapped splits, and batches of random crops."""

import csv
import hashlib
import io
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.common.atomic_files import write_text
from experiments.common.plain_words import counted
from experiments.data.cache import SPLITS, Columns, Index
from experiments.data.corpus import DataError
from experiments.data.signal import FULL_SCALE, TARGET_DBFS, Float32, Int16, at_level, level_gains
from experiments.data.sources.streamed import StreamedCorpus
from experiments.data.streaming import TarSplit


class Split:
    """The clips of one split. Indexing decodes nothing: the audio is memory-mapped int16.

    `names`, `speakers`: one entry a clip; `seconds`: float64 [clips]; `total_seconds`.
    """

    def __init__(self, directory: Path, name: str, sample_rate: int, columns: Columns, files: list[Path]):
        self.directory, self.name, self.sample_rate = directory, name, sample_rate
        self.names: Sequence[str] = columns.names
        self.speakers: Sequence[str] = columns.speakers
        self.samples = np.asarray(columns.samples, np.int64)
        self.levels = np.asarray(columns.rms, np.float64)
        self._shards = np.asarray(columns.shards, np.int64)
        self._starts = np.asarray(columns.starts, np.int64)
        self._files = files

    def __len__(self) -> int:
        return len(self.names)

    @property
    def seconds(self) -> NDArray[np.float64]:
        return self.samples / self.sample_rate

    @property
    def total_seconds(self) -> float:
        return float(self.samples.sum()) / self.sample_rate

    @cached_property
    def _audio(self) -> list[Int16]:
        return [np.asarray(np.memmap(path, dtype="<i2", mode="r")) for path in self._files]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_audio"}

    def pcm(self, index: int, start: int = 0, stop: int | None = None) -> Int16:
        """The stored samples of clip `index`, a read-only view, int16 [samples]."""
        first = int(self._starts[index])
        stop = int(self.samples[index]) if stop is None else stop
        return self._audio[self._shards[index]][first + start : first + stop]

    def crops(
        self,
        *,
        samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        threads: int | None = None,
    ) -> "Crops":
        """Training batches of crops of `samples` samples. threads: of streams; nothing is decoded here."""
        return Crops(
            self, samples=samples, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )

    def clip(self, index: int, normalise: bool = True) -> Float32:
        """Clip `index`, float32 [samples] in [-1, 1], at `TARGET_DBFS` unless `normalise` is false."""
        audio = self.pcm(index).astype(np.float32) / np.float32(FULL_SCALE)
        if normalise:
            level = self.levels[index : index + 1]
            peak = np.abs(audio).max(keepdims=True).astype(np.float64)
            audio *= np.float32(level_gains(level, peak, level, TARGET_DBFS)[0])
        return audio


LACKING_REMEDY = (
    "Remedy: add files for it: in a manifest by the column split, in a folder by first-level folders named "
    "train, dev and test, of LibriSpeech and LibriTTS by a subset such as test-clean."
)


class Shards:
    """A prepared corpus: `name`, `sample_rate`, `content_hash`, `synthetic`, `licence`, `notes`, `report`.

    `report` lists (file, "noted" or "skipped", why) for every file that was changed or left out.
    """

    def __init__(self, path: Path, index: Index, stream: StreamedCorpus | None = None):
        self.path = path
        self.name = index.name
        self.sample_rate = index.sample_rate
        self.synthetic = index.synthetic
        self.licence = index.licence
        self.notes = index.notes
        self.report = index.report
        self.content_hash = index.content_hash()
        self._index, self._stream = index, stream
        if stream is not None:
            both = f"{self.content_hash} {stream.training_fingerprint}"
            self.content_hash = hashlib.sha256(both.encode()).hexdigest()

    def training(self) -> "Split | TarSplit":
        """The clips to train on, or the shards from which they are streamed."""
        if self._stream is None:
            return self.split("train")
        held_out = {
            speaker for split in ("validation", "test") for speaker in self._index.splits[split].speakers
        }
        return TarSplit(self._stream.shards["train"], self.sample_rate, self._stream.trains(held_out))

    def split(self, name: str) -> Split:
        """The clips of "train", "validation" or "test". Raises `DataError` if there are none."""
        if name not in SPLITS:
            raise DataError(f"unknown split {name!r}; there are {', '.join(SPLITS)}")
        columns = self._index.splits[name]
        if name == "train" and self._stream is not None:
            raise DataError(f"the training clips of {self.name!r} are streamed: use training()")
        if not columns.names:
            raise DataError(self._lacking([name]))
        files = [self.path / file.file for file in self._index.files[name]]
        return Split(self.path, name, self.sample_rate, columns, files)

    def check_splits(self, needed: Collection[str]) -> None:
        """Raise `DataError` where one of the splits `needed` has no usable clips."""
        streamed = {"train"} if self._stream is not None else set()
        empty = [name for name in needed if not self._index.splits[name].names]
        if lacking := [name for name in empty if name not in streamed]:
            raise DataError(self._lacking(lacking))

    def _lacking(self, splits: Sequence[str]) -> str:
        skipped = self.skipped
        some = "; ".join(f"{name!r}: {why}" for name, why in skipped[:3])
        more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        files = f" ({counted(len(skipped), 'file')} skipped: {some}{more})" if skipped else ""
        return f"corpus {self.name!r} has no usable {' or '.join(splits)} clips{files}. {LACKING_REMEDY}"

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(file, why) for every file that was left out."""
        return [(name, why) for name, status, why in self.report if status == "skipped"]

    def spoken_here(self) -> str:
        """One line on synthetic speech: its hash, and that other kinds of CPU speak it otherwise."""
        if not self.synthetic:
            return ""
        return (
            f"{self.name}: as this kind of CPU speaks it, hash {self.content_hash[:12]}; "
            "another kind speaks other waveforms, whose runs are other runs (docs/data.md)"
        )

    def left_out(self) -> str:
        """One line: how many files were skipped or changed, and where the list is. Empty if none was."""
        if not self.report:
            return ""
        noted = len(self.report) - len(self.skipped)
        counts = [f"{counted(len(self.skipped), 'file')} left out"] if self.skipped else []
        counts += [f"{counted(noted, 'clip')} changed and used"] if noted else []
        path = self._report_file()
        return f"{self.name}: {', '.join(counts)}; list: {path or 'Shards.report'}"

    def _report_file(self) -> Path | None:
        """The report as a CSV file beside the shards; None where it cannot be written."""
        path = self.path / "report.csv"
        if not path.is_file():
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerows([("file", "status", "why"), *self.report])
            try:
                write_text(path, text.getvalue().encode("utf-8", "backslashreplace").decode())
            except OSError:
                return None
        return path

    def summary(self) -> str:
        """One line: name, rate, minutes and clips a split, files skipped."""
        parts = []
        for split, columns in self._index.splits.items():
            if split == "train" and self._stream is not None:
                parts.append(f"train streamed from {len(self._stream.shards['train'])} shards")
                continue
            minutes = sum(columns.samples) / self.sample_rate / 60
            parts.append(f"{split} {minutes:.1f} min in {counted(len(columns.names), 'clip')}")
        kind = "synthetic speech, " if self.synthetic else ""
        left_out = f", {counted(len(self.skipped), 'file')} skipped" if self.skipped else ""
        return f"{self.name} ({kind}{self.sample_rate} Hz): {', '.join(parts)}{left_out}"


class Crops:
    """Training batches of random crops, a pure function of (seed, step).

    Clips are drawn in proportion to their length and starts uniformly inside them; a clip shorter than the
    crop lies at a random place in zeros. Every crop is brought to `target_dbfs` RMS (`audio.level_gains`).
    With `world_size` processes, process `rank` gets the rows `rank::world_size` of the same global batch.
    """

    def __init__(
        self,
        split: Split,
        *,
        samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        target_dbfs: float = TARGET_DBFS,
    ) -> None:
        if samples < 1 or batch_size < 1 or seed < 0:
            raise DataError(f"need samples and batch_size >= 1, seed >= 0: {samples}, {batch_size}, {seed}")
        if not 0 <= rank < world_size or batch_size % world_size:
            raise DataError(
                f"a batch of {batch_size} cannot be shared by rank {rank} of {world_size} processes"
            )
        self.split, self.samples, self.batch_size, self.seed = split, samples, batch_size, seed
        self.rank, self.world_size, self.target_dbfs = rank, world_size, target_dbfs
        self._ends = np.cumsum(split.samples)

    def positions(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Clip and start of each crop of the global batch at `step`, [batch] each; starts may be negative."""
        # Raw bits: numpy promises the same in every release for them, but not for its distributions.
        bits = np.random.Philox(np.random.SeedSequence((self.seed, step))).random_raw(2 * self.batch_size)
        where, when = (bits >> np.uint64(11)).reshape(2, -1) * 2.0**-53
        clips = np.searchsorted(self._ends, (where * self._ends[-1]).astype(np.int64), "right")
        slack = self.split.samples[clips] - self.samples
        starts = (when * (np.abs(slack) + 1)).astype(np.int64) * np.sign(slack)
        return clips, starts

    def describe(self, step: int) -> str:
        """The clips and starts of the global batch at `step`."""
        rate, names = self.split.sample_rate, self.split.names
        placed = zip(*self.positions(step), strict=True)
        return ", ".join(f"{names[clip]} from {start / rate:.3f} s" for clip, start in placed)

    def cursor(self) -> dict[str, Any]:
        """An empty position: the step alone says where to go on."""
        return {}

    def seek(self, cursor: Mapping[str, Any]) -> None:
        """Does nothing, see `cursor`."""

    def close(self) -> None:
        """Does nothing: no thread reads ahead."""

    def batch(self, step: int) -> Float32:
        """The crops of this process at `step`, float32 [batch / world_size, samples]."""
        clips, starts = (column[self.rank :: self.world_size] for column in self.positions(step))
        lengths = np.minimum(self.split.samples[clips], self.samples)
        pcm = np.zeros((len(clips), self.samples), np.int16)
        for row, (clip, start, length) in enumerate(zip(clips, starts, lengths, strict=True)):
            into, start = max(0, -start), max(0, start)
            pcm[row, into : into + length] = self.split.pcm(clip, start, start + length)
        return at_level(pcm, lengths, self.split.levels[clips], self.target_dbfs)
