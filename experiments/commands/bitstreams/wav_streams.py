"""WAV from a pipe and to a pipe: samples are read as they arrive, and written before their number is known.

libsndfile can do neither, since it moves about in a file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from experiments.data.recording import OPEN_ENDED_BYTES

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
OPEN_ENDED = 0xFFFFFFFF  # a size that is not known yet
HEADER_BYTES = 58
_MOST_HEADER = 2**20  # bytes before the samples
_PART_SECONDS = 0.25

Samples = NDArray[np.float64]


class NotWAV(ValueError):
    """Bytes that are no WAV file whose samples can be read as they arrive."""


class WAVReader:
    """A WAV file that `read(n)` gives byte by byte: at most n bytes at once, none at its end.

    taken: the bytes that were read of its header, so that another reader can begin anew where NotWAV is
    raised. rate: Hz. seconds: of what was read.
    """

    def __init__(self, read: Callable[[int], bytes], taken: bytearray) -> None:
        self._read, self._taken = read, taken
        if self._take(4) != b"RIFF" or self._take(8)[4:] != b"WAVE":
            raise NotWAV("no RIFF file of WAVE")
        layout: bytes | None = None
        while True:
            name, size = self._take(4), int.from_bytes(self._take(4), "little")
            if name == b"data":
                break
            if size > _MOST_HEADER or len(taken) > _MOST_HEADER:
                raise NotWAV("too much before its samples")
            content = self._take(size + size % 2)
            layout = content if name == b"fmt " else layout
        if layout is None or len(layout) < 16:
            raise NotWAV("no format before its samples")
        kind, channels, rate, _, width, bits = struct.unpack("<HHIIHH", layout[:16])
        if kind == EXTENSIBLE and len(layout) >= 26:
            kind = int.from_bytes(layout[24:26], "little")
        if (kind, bits) not in _DECODERS or not channels or width != channels * bits // 8:
            raise NotWAV("another format than PCM of 8 to 32 bits or float")
        self.rate, self._channels, self._width = rate, channels, width
        self._decode = _DECODERS[kind, bits]
        self._left = size if 0 < size < OPEN_ENDED_BYTES else None
        self._stated, self._frames = size // width if self._left else 0, 0

    @property
    def seconds(self) -> float:
        return self._frames / self.rate

    def parts(self) -> Iterator[Samples]:
        """The samples as they arrive, channels averaged, float64 [samples] on [-1, 1]."""
        held = b""
        while self._left is None or self._left > 0:
            asked = self._width * max(1, round(_PART_SECONDS * self.rate)) - len(held)
            part = self._read(asked if self._left is None else min(asked, self._left))
            if not part:
                break
            if self._left is not None:
                self._left -= len(part)
            held += part
            whole = len(held) - len(held) % self._width
            if whole:
                values = self._decode(held[:whole]).reshape(-1, self._channels)
                held = held[whole:]
                self._frames += len(values)
                yield values[:, 0] if self._channels == 1 else values.mean(axis=1)
        while self._left is not None and self._read(2**16):
            pass  # what follows the samples, so that the writer of the pipe can end

    def ending(self) -> str:
        """Remark on a stream that ended before its header says; empty if it did not."""
        if not self._left:
            return ""
        return f"ends after {self.seconds:.2f} of {self._stated / self.rate:.2f} s"

    def _take(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            part = self._read(count - len(content))
            if not part:
                raise NotWAV("it ends in its header")
            content += part
            self._taken += part
        return content


def header(rate: int, samples: int | None) -> bytes:
    """The header of a WAV file of mono float32 `samples`; None where their number is not known.

    Sizes beyond 4 GiB are left open, too.
    """
    size = OPEN_ENDED if samples is None or 4 * samples + HEADER_BYTES > OPEN_ENDED else 4 * samples
    open_ended = size == OPEN_ENDED
    frames = min(OPEN_ENDED, size // 4 if not open_ended else OPEN_ENDED)
    whole = OPEN_ENDED if open_ended else size + HEADER_BYTES - 8
    layout = struct.pack("<HHIIHHH", FLOAT, 1, rate, 4 * rate, 4, 32, 0)
    chunks = b"fmt " + struct.pack("<I", len(layout)) + layout + b"fact" + struct.pack("<II", 4, frames)
    return b"RIFF" + struct.pack("<I", whole) + b"WAVE" + chunks + b"data" + struct.pack("<I", size)


def _integers(kind: str, scale: float, zero: int = 0) -> Callable[[bytes], Samples]:
    return lambda content: (np.frombuffer(content, kind).astype(np.float64) - zero) / scale


def _of_24_bits(content: bytes) -> Samples:
    raw = np.frombuffer(content, np.uint8).reshape(-1, 3)
    wide = np.zeros((len(raw), 4), np.uint8)
    wide[:, 1:] = raw
    return wide.view("<i4")[:, 0].astype(np.float64) / 2**31


_DECODERS: dict[tuple[int, int], Callable[[bytes], Samples]] = {
    (PCM, 8): _integers("u1", 2.0**7, 128),
    (PCM, 16): _integers("<i2", 2.0**15),
    (PCM, 24): _of_24_bits,
    (PCM, 32): _integers("<i4", 2.0**31),
    (FLOAT, 32): _integers("<f4", 1.0),
    (FLOAT, 64): _integers("<f8", 1.0),
}
