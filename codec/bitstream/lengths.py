"""Code lengths in bits without any coding: what the models of `models` would need, computed for all symbols
at once.

Symbols are [frames] int64 of one factor. `after` is the symbol of the frame before, -1 in the first frame of
a recording.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codec.bitstream.models import TABLE_CLASSES, TABLE_INCREMENT, TABLE_VALUES, table_classes

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


class Seen:
    """How often each symbol of one factor came before, of all and of those after the same symbol.

    frames [frames]: number of frames before. times [frames]: earlier frames with the same symbol.
    context_frames, context_times: likewise, among earlier frames after the same symbol.
    """

    def __init__(self, symbols: Int64, after: Int64, size: int) -> None:
        self.size = size
        self.symbols = symbols
        self.frames = np.arange(len(symbols))
        self.times = earlier_equal(symbols)
        context = after >= 0
        self.context_frames = np.where(context, earlier_equal(after), 0)
        self.context_times = np.where(context, earlier_equal(after * size + symbols), 0)

    def adaptive(self, increment: int) -> float:
        """Bits by `models.Adaptive`."""
        total, own = self._adaptive(increment)
        return float((np.log2(total) - np.log2(own)).sum())

    def context(self, increment: int, strength: int) -> float:
        """Bits by `models.Context`."""
        total, own = self._adaptive(increment)
        whole = (self.context_frames + strength) * total
        share = self.context_times * total + strength * own
        return float((np.log2(whole) - np.log2(share)).sum())

    def static(self) -> float:
        """Bits by `models.Static`, those of the table among them; infinite where it never pays."""
        if len(self.symbols) < self.size:
            return math.inf
        counts = np.bincount(self.symbols, minlength=self.size)
        classes = table_classes(counts)
        frequencies = np.array(TABLE_VALUES, dtype=np.float64)[classes]
        used = counts > 0
        symbols = counts[used] * (np.log2(frequencies.sum()) - np.log2(frequencies[used]))
        table = Seen(classes, np.full_like(classes, -1), TABLE_CLASSES).adaptive(TABLE_INCREMENT)
        return float(symbols.sum()) + table

    def uniform(self) -> float:
        """Bits by `models.Uniform`: the nominal rate."""
        return len(self.symbols) * math.log2(self.size)

    def _adaptive(self, increment: int) -> tuple[Float64, Float64]:
        return (
            (self.size + increment * self.frames).astype(np.float64),
            (1 + increment * self.times).astype(np.float64),
        )


def earlier_equal(values: Int64) -> Int64:
    """For each of `values` [n], how many before it are equal to it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.ones(len(values), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    places = np.arange(len(values))
    earlier = np.empty(len(values), dtype=np.int64)
    earlier[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return earlier


def symbols_before(symbols: Int64, recordings: Sequence[int]) -> Int64:
    """The symbol of the frame before each of `symbols` [frames]; -1 in the first of each recording.

    recordings: frames of each, in order.
    """
    before = np.full(len(symbols), -1, dtype=np.int64)
    before[1:] = symbols[:-1]
    starts = np.cumsum([0, *recordings[:-1]]) if len(recordings) else np.zeros(0, dtype=np.int64)
    before[starts[starts < len(symbols)]] = -1
    return before
