"""Range coder: symbols into bytes and back, by integer frequencies alone, so that every machine agrees.

Martin 1979, "Range encoding: an algorithm for removing redundancy from a digitised message": an interval
[low, low + width) is narrowed by each symbol to its share, and its leading byte leaves as soon as the width
allows. A carry into bytes that have left is added to them.
"""

from __future__ import annotations

STATE = 96  # bits of the interval: totals up to 2^64 cost less than 2^-23 bit a symbol
MOST_TOTAL = 2**64
_WHOLE, _SHIFT = 1 << STATE, STATE - 8
_NARROW = 1 << _SHIFT  # a byte leaves while the interval is narrower than this


class Encoder:
    """Writes symbols; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._low, self._width = 0, _WHOLE - 1

    def encode(self, start: int, size: int, total: int) -> None:
        """Write the symbol that has `size` of `total` frequencies, after `start` of those before it."""
        step = self._width // total
        self._low += step * start
        self._width = step * size
        if self._low >= _WHOLE:
            self._low -= _WHOLE
            self._carry()
        while self._width < _NARROW:
            self._bytes.append(self._low >> _SHIFT)
            self._low = (self._low << 8) & (_WHOLE - 1)
            self._width <<= 8

    def finish(self) -> bytes:
        """All bytes: those that left, and as few as name a number in the interval, zeros beyond the end."""
        for kept in range(0, STATE + 1, 8):
            unit = 1 << (STATE - kept)
            number = -(-self._low // unit) * unit
            if number < self._low + self._width:
                break
        if number >= _WHOLE:
            number -= _WHOLE
            self._carry()
        tail = number.to_bytes(STATE // 8, "big")
        return (bytes(self._bytes) + tail).rstrip(b"\0")

    def _carry(self) -> None:
        place = len(self._bytes) - 1
        while self._bytes[place] == 0xFF:
            self._bytes[place] = 0
            place -= 1
        self._bytes[place] += 1


class Decoder:
    """Reads what an `Encoder` wrote: for each symbol `position`, then `advance` by its frequencies.

    Any bytes can be read: they mean other symbols, never an error.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, STATE // 8
        self._offset = int.from_bytes(content[: self._place].ljust(self._place, b"\0"), "big")
        self._width = _WHOLE - 1

    def position(self, total: int) -> int:
        """Where in [0, total) the next symbol lies."""
        return min(self._offset // (self._width // total), total - 1)

    def advance(self, start: int, size: int, total: int) -> None:
        """Take the symbol with these frequencies, which hold `position`, as read."""
        step = self._width // total
        self._offset -= step * start
        self._width = step * size
        while self._width < _NARROW:
            read = self._content[self._place] if self._place < len(self._content) else 0
            self._offset = (self._offset << 8) | read
            self._width <<= 8
            self._place += 1
