"""Container of one coded recording: what a file says before, and after, its payload.

Layout, version 1 (`docs/bitstream.md`): 4 bytes magic; version, model and settings, a byte each; 8 bytes
identity of the codec; sample rate, hop, samples, frames, factors and payload bytes as LEB128 numbers; the
payload; CRC-32 of all that, 4 bytes, the lowest first.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from codec.bitstream.payload import MODELS, Settings

MAGIC = b"\xcbits"
VERSION = 1
STREAM_VERSION = 2  # in blocks, see `blocks`
IDENTITY_BYTES = 8
_FIXED = len(MAGIC) + 3 + IDENTITY_BYTES
_MOST_NUMBER_BYTES = 9  # of a LEB128 number: 63 bits
SPARE_FRAMES = 64  # that an encoder may make beyond the audio


class StreamError(ValueError):
    """Bytes that are no recording that this codec has coded, or not whole; the message says which."""


@dataclass(frozen=True, kw_only=True)
class CodedRecording:
    """identity: of the codec, 8 bytes. sample_rate: Hz; hop: samples per frame; samples: of the recording at
    that rate; frames and factors: of the payload."""

    settings: Settings
    identity: bytes
    sample_rate: int
    hop: int
    samples: int
    frames: int
    factors: int
    payload: bytes

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.samples / self.sample_rate

    def to_bytes(self) -> bytes:
        """The whole file."""
        head = [MAGIC, bytes([VERSION, MODELS.index(self.settings.model), self.settings.byte()])]
        numbers = (self.sample_rate, self.hop, self.samples, self.frames, self.factors, len(self.payload))
        content = b"".join([*head, self.identity, *map(leb128, numbers), self.payload])
        return content + zlib.crc32(content).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, content: bytes) -> CodedRecording:
        """Read a whole file. Raises StreamError."""
        if not content.startswith(MAGIC):
            raise StreamError("it was not written by `codecbench encode`")
        if len(content) < _FIXED:
            raise StreamError(f"it is cut short: {len(content)} bytes are less than a header")
        version, model, settings = content[len(MAGIC) : len(MAGIC) + 3]
        if version == STREAM_VERSION:
            raise StreamError("it is coded in blocks, version 2 of the format, which `blocks` reads")
        if version != VERSION:
            raise StreamError(unknown_version(version))
        numbers, place = [], _FIXED
        for _ in range(6):
            value, place = read_number(content, place)
            numbers.append(value)
        sample_rate, hop, samples, frames, factors, length = numbers
        end = place + length + 4
        if len(content) < end:
            raise StreamError(f"it is cut short: {len(content)} of {end} bytes are there")
        if len(content) > end:
            raise StreamError(f"{len(content) - end} bytes follow its end; it may be several files in one")
        if zlib.crc32(content[:-4]).to_bytes(4, "little") != content[-4:]:
            raise StreamError("it is damaged: its checksum is not that of its content")
        most = samples // hop + SPARE_FRAMES if hop else 0
        if not (model < len(MODELS) and sample_rate and hop and frames <= most):
            raise StreamError("its header is not valid: it was not written by `codecbench encode`")
        return cls(
            settings=Settings.of_byte(MODELS[model], settings),
            identity=content[len(MAGIC) + 3 : _FIXED],
            sample_rate=sample_rate,
            hop=hop,
            samples=samples,
            frames=frames,
            factors=factors,
            payload=content[place : end - 4],
        )


def unknown_version(version: int) -> str:
    """The reason to refuse a file."""
    return f"it has version {version} of the format, and this codecbench reads versions 1 and 2"


def leb128(value: int) -> bytes:
    """`value` in LEB128: seven bits a byte, the lowest first, the eighth set where another byte follows."""
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


def read_number(content: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and the place behind it."""
    value = 0
    for shift in range(_MOST_NUMBER_BYTES):
        if place >= len(content):
            raise StreamError("it is cut short, within its header")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, place
    raise StreamError("it is damaged: a number in its header has no end")
