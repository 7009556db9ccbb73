"""Code lengths in bits without any coding: what the models of `models` would need, computed for all symbols
at once.

A stream is one or several recordings after each other: a model keeps what it learned from one to the next,
while contexts do not reach beyond the beginning of a recording.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from codec.bitstream.models import TABLE_CLASSES, TABLE_INCREMENT, TABLE_VALUES, table_classes

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

_TABLE_VALUES = np.array(TABLE_VALUES, dtype=np.float64)


@dataclass(frozen=True)
class Streams:
    """Which frames belong to which recording, and which recordings to which stream.

    recordings: frames of each. stream_of: the stream of each, ascending from 0 without gaps.
    """

    recordings: tuple[int, ...]
    stream_of: tuple[int, ...]

    @classmethod
    def one(cls, recordings: Sequence[int]) -> Streams:
        """All recordings in one stream."""
        return cls(tuple(recordings), (0,) * len(recordings))

    @classmethod
    def each(cls, recordings: Sequence[int]) -> Streams:
        """A stream for each recording."""
        return cls(tuple(recordings), tuple(range(len(recordings))))

    def by(self, stride: int) -> Streams:
        """The same with a frame for each block of `stride` frames that a recording begins."""
        if stride == 1:
            return self
        return Streams(tuple(-(-frames // stride) for frames in self.recordings), self.stream_of)

    @property
    def count(self) -> int:
        """Number of streams, one where there is no recording."""
        return max(self.stream_of, default=0) + 1

    @cached_property
    def streams(self) -> Int64:
        """The stream of each frame."""
        return np.repeat(np.array(self.stream_of, dtype=np.int64), self.recordings)

    @cached_property
    def frames(self) -> Int64:
        """Frames of each stream."""
        return np.bincount(self.streams, minlength=self.count)

    @cached_property
    def place(self) -> Int64:
        """Place of each frame in its stream."""
        return np.arange(len(self.streams)) - np.repeat(np.cumsum(self.frames) - self.frames, self.frames)

    @cached_property
    def _sums(self) -> dict[tuple[int, int], Float64]:
        return {}

    def sums(self, first: int, increment: int) -> Float64:
        """For n up to the frames of the longest stream, the sum of log2(first + increment k) over k < n."""
        if (first, increment) not in self._sums:
            terms = np.log2(first + increment * np.arange(self.frames.max(), dtype=np.float64))
            self._sums[first, increment] = np.concatenate([[0.0], np.cumsum(terms)])
        return self._sums[first, increment]


class Seen:
    """How often each symbol of one factor came before in its stream.

    symbols [frames] int64, each in [0, size). Lengths are [streams], in bits.
    """

    def __init__(self, symbols: Int64, size: int, streams: Streams) -> None:
        self.symbols, self.size, self.streams = symbols, size, streams
        self._own = streams.streams * size + symbols
        codes, self._counts = np.unique(_narrow(self._own), return_counts=True)
        self._stream_of_count = codes.astype(np.int64) // size

    def uniform(self) -> Float64:
        """By `models.Uniform`: the nominal rate."""
        return self.streams.frames.astype(np.float64) * math.log2(self.size)

    def adaptive(self, increment: int) -> Float64:
        """By `models.Adaptive`."""
        whole = self.streams.sums(self.size, increment)[self.streams.frames]
        own = self.streams.sums(1, increment)[self._counts]
        return whole - np.bincount(self._stream_of_count, weights=own, minlength=self.streams.count)

    def context(self, increments: Int64, strengths: Sequence[int]) -> Float64:
        """By `models.Context` at each of `strengths`: [strengths, streams]. increments: [streams]."""
        streams = self.streams.streams
        before = symbols_before(self.symbols, self.streams.recordings)
        inside = before >= 0
        context = streams * (self.size + 1) + before + 1
        after = np.where(inside, earlier_equal(context), 0).astype(np.float64)
        together = np.where(inside, earlier_equal(context * self.size + self.symbols), 0).astype(np.float64)
        increment = increments[streams]
        share = (1 + increment * earlier_equal(self._own)) / (self.size + increment * self.streams.place)
        bits = [np.log2((after + strength) / (together + strength * share)) for strength in strengths]
        return np.stack([np.bincount(streams, each, self.streams.count) for each in bits])

    def static(self) -> Float64:
        """By `models.Static`, with the bits of its table; infinite where a table never pays."""
        ends = np.cumsum(self.streams.frames)
        parts = np.split(self.symbols, ends[:-1])
        return np.array([self._static(part) if len(part) >= self.size else np.inf for part in parts])

    def _static(self, symbols: Int64) -> float:
        counts = np.bincount(symbols, minlength=self.size)
        classes = table_classes(counts)
        frequencies = _TABLE_VALUES[classes]
        used = counts > 0
        bits = counts[used] @ (np.log2(frequencies.sum()) - np.log2(frequencies[used]))
        whole = self.streams.sums(TABLE_CLASSES, TABLE_INCREMENT)[self.size]
        return float(bits + whole - self.streams.sums(1, TABLE_INCREMENT)[np.bincount(classes)].sum())


def earlier_equal(values: Int64) -> Int64:
    """For each of `values` [n], none of them negative, how many before it are equal to it."""
    order = np.argsort(_narrow(values), kind="stable")
    ordered = values[order]
    first = np.ones(len(values), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    places = np.arange(len(values))
    earlier = np.empty(len(values), dtype=np.int64)
    earlier[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return earlier


def _narrow(values: Int64) -> NDArray[np.unsignedinteger]:
    """`values` in the smallest type that holds them: numpy sorts 16 bits ten times as fast as 64."""
    return values.astype(np.min_scalar_type(values.max(initial=0)))


def tokens_of(column: Int64, recordings: Sequence[int], stride: int) -> Int64:
    """Of `column` [frames], the symbols of one factor, those in frames 0, stride, 2 stride and so on of each
    recording: its tokens.

    recordings: frames of each, in order.
    """
    if stride == 1 or not len(column):
        return column
    lengths = np.array(recordings, dtype=np.int64)
    place = np.arange(len(column)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.ascontiguousarray(column[place % stride == 0])


def symbols_before(symbols: Int64, recordings: Sequence[int]) -> Int64:
    """The symbol of the frame before each of `symbols` [frames]; -1 in the first of each recording.

    recordings: frames of each, in order.
    """
    before = np.full(len(symbols), -1, dtype=np.int64)
    before[1:] = symbols[:-1]
    starts = np.cumsum([0, *recordings[:-1]]) if len(recordings) else np.zeros(0, dtype=np.int64)
    before[starts[starts < len(symbols)]] = -1
    return before
