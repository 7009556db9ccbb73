"""Counts of symbols whose sums below any symbol are at hand: how a range coder asks for frequencies."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable
from itertools import accumulate


class Counts:
    """A count of each of `size` symbols, each 1 at first, as a binary indexed tree (Fenwick 1994)."""

    def __init__(self, size: int) -> None:
        self.size = self.total = size
        self._counts: dict[int, int] = {}  # but for the first 1
        self._tree = [place & -place for place in range(size + 1)]
        self._top = 1 << (size.bit_length() - 1)

    def of(self, symbol: int) -> int:
        """The count of a symbol."""
        return 1 + self._counts.get(symbol, 0)

    def below(self, symbol: int) -> int:
        """The sum of the counts of the symbols below one."""
        tree, total = self._tree, 0
        while symbol:
            total += tree[symbol]
            symbol &= symbol - 1
        return total

    def find(self, position: int) -> int:
        """The symbol whose counts hold `position` in [0, total)."""
        tree, place, step = self._tree, 0, self._top
        while step:
            further = place + step
            if further <= self.size and tree[further] <= position:
                place = further
                position -= tree[further]
            step >>= 1
        return place

    def add(self, symbol: int, increment: int) -> None:
        """Raise the count of a symbol."""
        if not increment:
            return
        self._counts[symbol] = self._counts.get(symbol, 0) + increment
        self.total += increment
        tree, place = self._tree, symbol + 1
        while place <= self.size:
            tree[place] += increment
            place += place & -place


class FewCounts:
    """Counts of the symbols that came, 0 for all others, of any number of symbols."""

    def __init__(self) -> None:
        self.total = 0
        self._symbols: list[int] = []  # ascending
        self._counts: dict[int, int] = {}

    def __len__(self) -> int:
        """Number of symbols that came."""
        return len(self._symbols)

    def of(self, symbol: int) -> int:
        """The count of a symbol."""
        return self._counts.get(symbol, 0)

    def below(self, symbol: int) -> int:
        """The sum of the counts of the symbols below one."""
        counts = self._counts
        return sum(counts[seen] for seen in self._symbols[: bisect_right(self._symbols, symbol - 1)])

    def add(self, symbol: int) -> None:
        """Count a symbol once more."""
        if symbol not in self._counts:
            insort(self._symbols, symbol)
            self._counts[symbol] = 0
        self._counts[symbol] += 1
        self.total += 1

    def last_at(self, position: int, start_of: Callable[[int, int], int]) -> tuple[int, int]:
        """The last symbol that came and starts at `position` or before, -1 if none does, and the sum of
        counts below it. `start_of(symbol, sum)` ascends with the symbols."""
        sums = [*accumulate((self._counts[seen] for seen in self._symbols), initial=0)]
        places = range(len(self._symbols))
        place = bisect_right(places, position, key=lambda i: start_of(self._symbols[i], sums[i])) - 1
        return (self._symbols[place], sums[place]) if place >= 0 else (-1, 0)
