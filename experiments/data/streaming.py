"""Training batches from tar shards, read as a stream: memory does not grow with the corpus."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.common.machine import cores
from experiments.data.corpus import DataError
from experiments.data.decoding import read_audio
from experiments.data.signal import TARGET_DBFS, Float32, Int16, at_level, rms
from experiments.data.sources.tar_samples import Shard, samples_of

LANES = 32  # shards that are read side by side, at most
BLOCK = 64  # crops of a lane that are shuffled together
NAMED = 20  # failures that are shown one by one
REMEMBERED = 8  # batches whose clips can be named

_log = logging.getLogger("codecbench.data")


class TarSplit:
    """The training shards of a corpus, at `sample_rate` Hz."""

    def __init__(self, shards: Sequence[Shard], sample_rate: int) -> None:
        self.name, self.shards, self.sample_rate = "train", list(shards), sample_rate

    def crops(
        self,
        *,
        samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        threads: int | None = None,
    ) -> "StreamedCrops":
        """Batches of crops of `samples` samples, like `data.Split.crops`, decoded in `threads`."""
        return StreamedCrops(
            self,
            samples=samples,
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            threads=threads,
        )


class Position(NamedTuple):
    """Position of a lane: its epoch, the shard within it, samples of that shard and pieces of that sample
    which it is past; and how many crops were without audio up to there."""

    epoch: int = 0
    shard: int = 0
    sample: int = 0
    piece: int = 0
    skipped: int = 0


class Crop(NamedTuple):
    """pcm [samples]; `length` of them are no padding. level: RMS of the clip it was cut from."""

    name: str
    pcm: Int16
    length: int
    level: float


class Closed(Exception):
    """The crops were closed while a block was read."""


class Lane:
    """One stream of crops, a function of the seed alone: every `lanes`-th shard of each epoch's order.

    A clip gives a crop for each whole crop length in it, at random places, at least one and at most `BLOCK`.
    Crops are shuffled in blocks of at least `BLOCK`; the next block is read while one is used.
    """

    def __init__(
        self, split: TarSplit, number: int, lanes: int, seed: int, samples: int, pool: ThreadPoolExecutor
    ) -> None:
        self.split, self.number, self.lanes, self.seed, self.samples = split, number, lanes, seed, samples
        self._pool = pool
        self._ahead: Future[tuple[list[Crop], Position]] | None = None
        self.closed = False
        self.seek(Position(), 0)

    def seek(self, start: Position, taken: int) -> None:
        """Go to the block that begins at `start`, `taken` crops of which are used."""
        if self._ahead is not None and not self._ahead.cancel():
            self._ahead.exception()  # it must not read on beside the new stream
        self._pieces = self._read(start)
        self._block: list[Crop] = []
        self._start, self._end, self._taken, self._pending = start, start, 0, taken
        self._ahead = None

    @property
    def cursor(self) -> tuple[Position, int]:
        """Position and number of crops taken, by which `seek` comes back here."""
        return self._start, self._taken + self._pending

    def take(self) -> Crop:
        """The next crop."""
        while self._taken == len(self._block):
            # Only when crops are asked for: a lane that is sought again has read nothing in vain.
            ahead = self._ahead or self._pool.submit(self._fill, self._end)
            self._start = self._end
            self._block, self._end = ahead.result()
            self._taken, self._pending = self._pending, 0
            self._ahead = self._pool.submit(self._fill, self._end)
        self._taken += 1
        return self._block[self._taken - 1]

    @property
    def skipped(self) -> int:
        """Samples without usable audio, up to the end of this block."""
        return self._end.skipped

    def _fill(self, start: Position) -> tuple[list[Crop], Position]:
        crops: list[Crop] = []
        position = start
        while len(crops) < BLOCK:
            if self.closed:
                raise Closed
            position, made = next(self._pieces)
            crops += made
        order = np.argsort(self._bits(2, *start[:4], count=len(crops)), kind="stable")
        return [crops[index] for index in order], position

    def _read(self, start: Position) -> Iterator[tuple[Position, list[Crop]]]:
        """Crops of each piece of each sample from `start` on, with the position after it."""
        skipped, epoch, shard, sample, piece = (
            start.skipped,
            start.epoch,
            start.shard,
            start.sample,
            start.piece,
        )
        while True:
            order = np.argsort(self._bits(0, epoch, count=len(self.split.shards)), kind="stable")
            lane_shards = order[self.number :: self.lanes]
            usable = shard > 0 or sample > 0  # an epoch that is entered in its middle is not judged
            for place in range(shard, len(lane_shards)):
                index = int(lane_shards[place])
                for number, entry in enumerate(samples_of(self.split.shards[index], "train")):
                    if number < sample:
                        continue
                    if entry.audio is None:
                        skipped += 1
                        _tell(entry.name, entry.why, skipped, again=epoch > start.epoch)
                        yield Position(epoch, place, number + 1, 0, skipped), []
                        continue
                    for part, read in enumerate(read_audio(entry.audio, self.split.sample_rate), 1):
                        if number == sample and part <= piece:
                            continue
                        crops: list[Crop] = []
                        if read.audio is None:
                            skipped += 1
                            _tell(entry.name + read.suffix, read.note, skipped, again=epoch > start.epoch)
                        else:
                            usable = True
                            crops = self._cut(
                                entry.name + read.suffix, read.audio, epoch, index, number, part
                            )
                        yield Position(epoch, place, number, part, skipped), crops
                sample = piece = 0
            if not usable:
                names = ", ".join(self.split.shards[index].name for index in lane_shards[:3])
                raise DataError(
                    f"webdataset: no usable audio in {len(lane_shards)} shard(s) ({names}, ...). "
                    "Remedy: see the warnings above for what is wrong with each."
                )
            epoch, shard = epoch + 1, 0

    def _cut(self, name: str, audio: Int16, *key: int) -> list[Crop]:
        count = min(max(1, len(audio) // self.samples), BLOCK)
        slack = len(audio) - self.samples
        # Raw bits: numpy promises the same in every release for them.
        where = (self._bits(1, *key, count=count) >> np.uint64(11)) * 2.0**-53
        level, crops = rms(audio), []
        for start in (where * (abs(slack) + 1)).astype(np.int64):
            pcm = np.zeros(self.samples, np.int16)
            if slack >= 0:
                pcm[:] = audio[start : start + self.samples]
            else:
                pcm[start : start + len(audio)] = audio
            crops.append(Crop(name, pcm, min(len(audio), self.samples), level))
        return crops

    def _bits(self, purpose: int, *key: int, count: int) -> NDArray[np.uint64]:
        lane = self.number if purpose == 2 else 0  # the order of shards and the cuts are everyone's
        return np.random.Philox(np.random.SeedSequence((self.seed, purpose, lane, *key))).random_raw(count)


class StreamedCrops:
    """Training batches of crops from tar shards, a function of (seed, step), like `data.Crops`.

    Row i of the global batch comes from lane i modulo the number of lanes, the largest divisor of the batch
    size that is not above `LANES` and the number of shards. With `world_size` processes, process `rank` gets
    the rows `rank::world_size` and reads the shards of their lanes alone, which no other process reads in
    that epoch.

    Steps are meant to be asked for in order; another step is reached by reading up to it, or at once by
    `seek` with the `cursor` of then. Memory: two blocks of crops a lane, and a few samples' files.
    threads: that read and decode; by default one for each core that this process may use.
    """

    def __init__(
        self,
        split: TarSplit,
        *,
        samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        target_dbfs: float = TARGET_DBFS,
        threads: int | None = None,
    ) -> None:
        if samples < 1 or batch_size < 1 or seed < 0:
            raise DataError(f"need samples and batch_size >= 1, seed >= 0: {samples}, {batch_size}, {seed}")
        most = min(LANES, len(split.shards), batch_size)
        lanes = next(number for number in range(most, 0, -1) if batch_size % number == 0)
        if not 0 <= rank < world_size or lanes % world_size:
            raise DataError(
                f"a batch of {batch_size} from {len(split.shards)} shards is read in {lanes} lanes, which "
                f"{world_size} processes (this is {rank}) cannot share. "
                "Remedy: take a number of processes that divides it, or make more and smaller shards."
            )
        self.split, self.samples, self.batch_size, self.target_dbfs = split, samples, batch_size, target_dbfs
        self.rank, self.world_size = rank, world_size
        own = range(rank, lanes, world_size)
        threads = min(threads or cores(), len(own))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="shards")
        self.lanes = {number: Lane(split, number, lanes, seed, samples, self._pool) for number in own}
        self._rows = [row % lanes for row in range(rank, batch_size, world_size)]
        self._step = 0
        self._names: dict[int, list[str]] = {}  # of the crops of the last few steps

    def batch(self, step: int) -> Float32:
        """The crops of this process at `step`, float32 [batch / world_size, samples]."""
        if step < self._step:
            self._seek(0, {})
        while True:
            crops = [self.lanes[number].take() for number in self._rows]
            self._step += 1
            if self._step > step:
                break
        # A new dictionary: another thread may look into the old one.
        newest = {at: names for at, names in self._names.items() if step - REMEMBERED < at < step}
        self._names = {**newest, step: [crop.name for crop in crops]}
        return at_level(
            np.stack([crop.pcm for crop in crops]),
            np.array([crop.length for crop in crops], np.int64),
            np.array([crop.level for crop in crops]),
            self.target_dbfs,
        )

    def describe(self, step: int) -> str:
        """The clips of this process's batch at `step`, one of the `REMEMBERED` read last."""
        names = self._names.get(step)
        return f"of step {step}" if names is None else ", ".join(names)

    @property
    def skipped(self) -> int:
        """Samples without usable audio that this process has met, each epoch anew."""
        return sum(lane.skipped for lane in self.lanes.values())

    def cursor(self) -> dict[str, Any]:
        """Positions of the lanes of this process, for `seek`. JSON can hold it, and `joined` makes those of
        all processes one."""
        lanes = {str(number): [*lane.cursor[0], lane.cursor[1]] for number, lane in self.lanes.items()}
        return {"step": self._step, "skipped": self.skipped, "lanes": lanes}

    def seek(self, cursor: Mapping[str, Any]) -> None:
        """Go on where the joined `cursor` of all processes was taken; from the beginning if it is empty."""
        lanes = {int(number): values for number, values in cursor.get("lanes", {}).items()}
        if lanes and (missing := self.lanes.keys() - lanes.keys()):
            raise DataError(f"the saved position in the shards lacks the lanes {sorted(missing)}")
        self._seek(int(cursor.get("step", 0)), lanes)

    def _seek(self, step: int, lanes: Mapping[int, Sequence[int]]) -> None:
        self._step = step
        for number, lane in self.lanes.items():
            *position, taken = lanes.get(number, (*Position(), 0))
            lane.seek(Position(*position), taken)

    def close(self) -> None:
        """Stop reading ahead, and end the threads when they are done with the clip that they decode."""
        for lane in self.lanes.values():
            lane.closed = True
        self._pool.shutdown(cancel_futures=True)


def joined(cursors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cursors of all processes as one."""
    lanes = {number: values for cursor in cursors for number, values in cursor.get("lanes", {}).items()}
    skipped = sum(cursor.get("skipped", 0) for cursor in cursors)
    return {**cursors[0], "skipped": skipped, "lanes": lanes} if lanes else {}


def _tell(name: str, why: str, count: int, *, again: bool) -> None:
    """Warn, but not `again` in every epoch."""
    if count <= NAMED and not again:
        _log.warning("left out %s: %s", name, why)
    elif count == NAMED + 1 and not again:
        _log.warning("more samples are left out; from here on they are only counted")
