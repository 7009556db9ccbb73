"""Models of one factor of the codes: the frequencies by which each symbol is coded.

With K symbols, n(x) of the N symbols so far equal to x, and n(x | c), N(c) of those whose symbol in the frame
before was c:

- `Uniform`: 1 / K, the nominal rate.
- `Static`: frequencies of the whole recording, rounded, which are sent before it.
- `Adaptive`: p(x) = (1 + a n(x)) / (K + a N), with increment a: what Krichevsky and Trofimov 1981 choose is
  a = 2, and Laplace a = 1; codebooks of which few codes are used want more.
- `Context`: (n(x | c) + s p(x)) / (N(c) + s), with strength s: it backs off to `Adaptive` where a context was
  seen less often than s times, as those of a large codebook are (MacKay and Peto 1995).

All are integers. Encoder and decoder change them by the same symbols.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from codec.bitstream.counts import Counts, FewCounts
from codec.bitstream.range_coder import Decoder, Encoder

MOST_CODES = 2**18  # of a factor that is modelled; a larger one is coded uniformly
TABLE_CLASSES = 48
TABLE_INCREMENT = 8
# Frequencies that can be sent: 0, 1, 2, 3, 4, 6, 8, 12, ... to 12.6 million, within 23 % of any count.
TABLE_VALUES = (0, 1, *(value << k for k in range((TABLE_CLASSES - 2) // 2) for value in (2, 3)))
_TABLE_BORDERS = np.sqrt(np.array(TABLE_VALUES[1:-1]) * np.array(TABLE_VALUES[2:]))


class Model(ABC):
    """Codes the symbols of one factor, one per frame."""

    def restart(self) -> None:  # noqa: B027 -- most have nothing to do
        """Begin another recording, which has no frame before its first; what was learned stays."""

    def trim(self, most: int) -> None:  # noqa: B027 -- most have nothing to do
        """Forget what was learned of pairs of symbols where that is of more than `most` pairs."""

    @abstractmethod
    def encode(self, encoder: Encoder, symbol: int) -> None:
        """Write a symbol."""

    @abstractmethod
    def decode(self, decoder: Decoder) -> int:
        """Read a symbol."""


class Uniform(Model):
    """All `size` symbols alike."""

    def __init__(self, size: int) -> None:
        self.size = size

    def encode(self, encoder: Encoder, symbol: int) -> None:
        encoder.encode(symbol, 1, self.size)

    def decode(self, decoder: Decoder) -> int:
        symbol = decoder.position(self.size)
        decoder.advance(symbol, 1, self.size)
        return symbol


class Static(Model):
    """Fixed frequencies, as `read_table` gives them."""

    def __init__(self, frequencies: Sequence[int]) -> None:
        self._sums = [*accumulate(frequencies, initial=0)]

    def encode(self, encoder: Encoder, symbol: int) -> None:
        sums = self._sums
        encoder.encode(sums[symbol], sums[symbol + 1] - sums[symbol], sums[-1])

    def decode(self, decoder: Decoder) -> int:
        sums = self._sums
        symbol = bisect_right(sums, decoder.position(sums[-1])) - 1
        decoder.advance(sums[symbol], sums[symbol + 1] - sums[symbol], sums[-1])
        return symbol


class Adaptive(Model):
    """Frequencies of the symbols so far."""

    def __init__(self, size: int, increment: int) -> None:
        self._counts, self._increment = Counts(size), increment

    def encode(self, encoder: Encoder, symbol: int) -> None:
        counts = self._counts
        encoder.encode(counts.below(symbol), counts.of(symbol), counts.total)
        counts.add(symbol, self._increment)

    def decode(self, decoder: Decoder) -> int:
        counts = self._counts
        symbol = counts.find(decoder.position(counts.total))
        decoder.advance(counts.below(symbol), counts.of(symbol), counts.total)
        counts.add(symbol, self._increment)
        return symbol


class Context(Model):
    """Frequencies of the symbols so far that came after the same symbol, mixed with those of all."""

    def __init__(self, size: int, increment: int, strength: int) -> None:
        self._all, self._increment, self._strength = Counts(size), increment, strength
        self._after: dict[int, FewCounts] = {}
        self._before = -1

    def restart(self) -> None:
        self._before = -1

    def trim(self, most: int) -> None:
        if sum(map(len, self._after.values())) > most:
            self._after.clear()

    def encode(self, encoder: Encoder, symbol: int) -> None:
        here = self._here()
        total = (here.total + self._strength) * self._all.total
        encoder.encode(self._start(symbol, here.below(symbol)), self._size(here, symbol), total)
        self._learn(here, symbol)

    def decode(self, decoder: Decoder) -> int:
        here, every = self._here(), self._all
        total = (here.total + self._strength) * every.total
        position = decoder.position(total)
        symbol, below = here.last_at(position, self._start)
        start = self._start(symbol, below) if symbol >= 0 else 0
        if symbol < 0 or position >= start + self._size(here, symbol):  # one that never came here
            below += here.of(symbol)
            symbol = every.find((position - below * every.total) // self._strength)
            start = self._start(symbol, below)
        decoder.advance(start, self._size(here, symbol), total)
        self._learn(here, symbol)
        return symbol

    def _here(self) -> FewCounts:
        return self._after.setdefault(self._before, FewCounts())

    def _start(self, symbol: int, below: int) -> int:
        return below * self._all.total + self._strength * self._all.below(symbol)

    def _size(self, here: FewCounts, symbol: int) -> int:
        return here.of(symbol) * self._all.total + self._strength * self._all.of(symbol)

    def _learn(self, here: FewCounts, symbol: int) -> None:
        if self._before >= 0:
            here.add(symbol)
        self._all.add(symbol, self._increment)
        self._before = symbol


def table_classes(counts: np.ndarray) -> np.ndarray:
    """Which of `TABLE_VALUES` is nearest each of `counts`, by their ratio; one that is not 0 stays so."""
    return np.where(counts > 0, 1 + np.searchsorted(_TABLE_BORDERS, counts), 0)


def write_table(encoder: Encoder, classes: Sequence[int]) -> list[int]:
    """Write the classes of a factor's frequencies; the frequencies."""
    model = Adaptive(TABLE_CLASSES, TABLE_INCREMENT)
    for value in classes:
        model.encode(encoder, value)
    return [TABLE_VALUES[value] for value in classes]


def read_table(decoder: Decoder, size: int) -> list[int]:
    """The frequencies of a factor of `size` codes."""
    model = Adaptive(TABLE_CLASSES, TABLE_INCREMENT)
    values = [TABLE_VALUES[model.decode(decoder)] for _ in range(size)]
    return values if any(values) else [1] * size  # of bytes that no encoder wrote
