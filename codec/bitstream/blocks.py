"""Container in blocks: what a recording is coded into as it arrives, and read from as it arrives.

Layout, version 2 (`docs/bitstream.md`): 4 bytes magic; version, model and settings, a byte each; 8 bytes
identity of the codec; sample rate, hop and factors as LEB128 numbers; checksum. Then for each block its
frames, above 0, and its payload bytes, LEB128; the payload; checksum. At the end 0, the samples of the
recording, LEB128, and a checksum. A checksum is the CRC-32 of all bytes before it but for other checksums, 4
bytes, the lowest first. (The CRC-32 of bytes and their own CRC-32 is the same for all bytes.)

Models keep what they learned from block to block, and the frame before the first of a block is the last of
the block before it. The range coder begins anew in each.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec.bitstream.container import (
    IDENTITY_BYTES,
    MAGIC,
    STREAM_VERSION,
    StreamError,
    leb128,
    unknown_version,
)
from codec.bitstream.payload import MODELS, Settings, learning, read_frames, write_frames
from codec.bitstream.range_coder import Decoder, Encoder

MOST_FRAMES = 2**20  # of a block
MOST_PAIRS = 2**17  # that a model of one factor remembers from block to block: about 16 MB
_MOST_BYTES = 9  # of a code, and of a LEB128 number
_PART = 2**20  # bytes that are read at once

Int64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class StreamHeader:
    """identity: of the codec, 8 bytes. sample_rate: Hz; hop: samples per frame."""

    settings: Settings
    identity: bytes
    sample_rate: int
    hop: int
    factors: int


class BlockWriter:
    """Bytes of a stream: those of `header`, of each `block` and of the `end`, in this order.

    sizes, strides: of the factors.
    """

    def __init__(self, header: StreamHeader, sizes: Sequence[int], strides: Sequence[int]) -> None:
        self._header, self._strides = header, strides
        self._models = [learning(size, header.settings) for size in sizes]
        self._sum = 0

    def header(self) -> bytes:
        """The bytes before the first block."""
        header = self._header
        model = MODELS.index(header.settings.model)
        fixed = [MAGIC, bytes([STREAM_VERSION, model, header.settings.byte()]), header.identity]
        return self._checked(
            b"".join([*fixed, *map(leb128, (header.sample_rate, header.hop, header.factors))])
        )

    def block(self, factors: Int64) -> bytes:
        """A block of `factors` [frames, factors], at least one frame, that begins a period of the strides."""
        encoder = Encoder()
        write_frames(encoder, self._models, self._strides, factors.tolist())
        for model in self._models:
            model.trim(MOST_PAIRS)
        payload = encoder.finish()
        return self._checked(leb128(len(factors)) + leb128(len(payload)) + payload)

    def end(self, samples: int) -> bytes:
        """The end of a recording of `samples`."""
        return self._checked(leb128(0) + leb128(samples))

    def _checked(self, content: bytes) -> bytes:
        self._sum = zlib.crc32(content, self._sum)
        return content + self._sum.to_bytes(4, "little")


class BlockReader:
    """Reads a stream of `BlockWriter`. `read(n)` gives the next n bytes, fewer only at the end of the file.

    header: of the stream. samples: of the recording, once `blocks` has ended. taken: bytes read so far.
    Raises StreamError where a checksum is not that of what came before it, and where the stream is cut.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read, self._sum = read, 0
        self.taken = self.samples = 0
        if self._take(len(MAGIC)) != MAGIC:
            raise StreamError("it was not written by `codecbench encode`")
        version, model, settings = self._take(3)
        if version != STREAM_VERSION:
            raise StreamError(unknown_version(version))
        identity = self._take(IDENTITY_BYTES)
        sample_rate, hop, factors = self._number(), self._number(), self._number()
        self._check()
        if not (0 < model < len(MODELS) and sample_rate and hop):
            raise StreamError("its header cannot be: it was not written by `codecbench encode`")
        self.header = StreamHeader(
            settings=Settings.of_byte(MODELS[model], settings),
            identity=identity,
            sample_rate=sample_rate,
            hop=hop,
            factors=factors,
        )

    def blocks(self, sizes: Sequence[int], strides: Sequence[int]) -> Iterator[Int64]:
        """Factors [frames, factors] of each block, as soon as its checksum has come."""
        models = [learning(size, self.header.settings) for size in sizes]
        while frames := self._number():
            length = self._number()
            if frames > MOST_FRAMES or length > frames * len(sizes) * _MOST_BYTES + 64:
                raise StreamError(f"it is damaged: a block cannot have {frames} frames in {length} bytes")
            decoder = Decoder(self._take(length))
            self._check()
            rows = np.empty((frames, len(sizes)), dtype=np.int64)
            read_frames(decoder, models, strides, rows)
            for model in models:
                model.trim(MOST_PAIRS)
            yield rows
        self.samples = self._number()
        self._check()
        if self._read(1):
            raise StreamError("bytes follow its end; it may be several files in one")

    def _next(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._read(min(count, _PART))
            if not part:
                raise StreamError(
                    f"it is cut short: it ends after {self.taken} bytes, within a block or header"
                )
            parts.append(part)
            count -= len(part)
            self.taken += len(part)
        return b"".join(parts)

    def _take(self, count: int) -> bytes:
        """The next `count` bytes, which the next checksum is of, too."""
        content = self._next(count)
        self._sum = zlib.crc32(content, self._sum)
        return content

    def _number(self) -> int:
        value = 0
        for shift in range(_MOST_BYTES):
            (byte,) = self._take(1)
            value |= (byte & 0x7F) << (7 * shift)
            if byte < 0x80:
                return value
        raise StreamError("it is damaged: a number in it has no end")

    def _check(self) -> None:
        if self._next(4) != self._sum.to_bytes(4, "little"):
            raise StreamError("it is damaged: a checksum is not that of its content")
