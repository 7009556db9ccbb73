"""Payload: the codes of recordings as bytes, by a model whose settings are chosen by their length."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec.bitstream.lengths import Seen, Streams, tokens_of
from codec.bitstream.models import (
    MOST_CODES,
    Adaptive,
    Context,
    Model,
    Static,
    Uniform,
    read_table,
    table_classes,
    write_table,
)
from codec.bitstream.range_coder import Decoder, Encoder

Int64 = NDArray[np.int64]

MODELS = ("static", "adaptive", "context")
INCREMENTS = (0, 1, 2, 4, 8, 16, 32, 64)
STRENGTHS = (1, 4, 16, 64, 256, 1024, 4096, 16384)


@dataclass(frozen=True)
class Settings:
    """A model of `MODELS` and, where it has them, its increment and its strength, places in their tuples."""

    model: str
    increment: int = 0
    strength: int = 0

    def byte(self) -> int:
        """Increment and strength in a byte."""
        return self.increment | self.strength << 3

    @classmethod
    def of_byte(cls, model: str, byte: int) -> Settings:
        """The reverse of `byte`; the two upper bits of it are ignored."""
        return cls(model, byte & 7, byte >> 3 & 7)


class Length(NamedTuple):
    """Settings, and the bits that the codes would need by them, computed without coding."""

    settings: Settings
    bits: float


def shortest(
    factors: Int64,
    sizes: Sequence[int],
    recordings: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> dict[str, Length]:
    """The best settings of each of `MODELS` for `factors` [frames, factors], and their length in bits.

    recordings: frames of each recording of a stream of several. strides: frames per token of each factor
    (`Quantizer.factor_strides`); None is one.
    """
    streams = Streams.one([len(factors)] if recordings is None else recordings)
    lengths = _lengths(factors, sizes, streams, strides)
    return {
        model: Length(Settings(model, int(increments[0]), int(strengths[0])), float(bits[0]))
        for model, (increments, strengths, bits) in lengths.items()
    }


def shortest_of_each(
    factors: Int64, sizes: Sequence[int], recordings: Sequence[int], strides: Sequence[int] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Bits [recordings] of each recording as a stream of its own, with its best settings of each model."""
    if not recordings:
        return {model: np.zeros(0) for model in MODELS}
    lengths = _lengths(factors, sizes, Streams.each(recordings), strides)
    return {model: bits for model, (_, _, bits) in lengths.items()}


def _lengths(
    factors: Int64, sizes: Sequence[int], streams: Streams, strides: Sequence[int] | None
) -> dict[str, tuple[Int64, Int64, NDArray[np.float64]]]:
    """Places of the increments and of the strengths, and bits, of each model: all [streams]."""
    constant = np.zeros(streams.count)
    seen = []
    strides = strides or [1] * len(sizes)
    of_tokens = {stride: streams.by(stride) for stride in strides}
    for column, size, stride in zip(np.ascontiguousarray(factors.T), sizes, strides, strict=True):
        if size > MOST_CODES:
            constant += of_tokens[stride].frames * math.log2(size)
        else:
            tokens = tokens_of(column, streams.recordings, stride)
            seen.append(Seen(tokens, size, of_tokens[stride]))
    nothing = np.zeros(streams.count, dtype=np.int64)
    static = sum((1 + np.minimum(one.static(), one.uniform()) for one in seen), constant)  # a bit tells which
    adaptive = constant + np.stack(
        [sum((one.adaptive(increment) for one in seen), np.zeros(1)) for increment in INCREMENTS]
    )
    increment = adaptive.argmin(0)
    chosen = np.array(INCREMENTS)[increment]
    context = sum((one.context(chosen, STRENGTHS) for one in seen), np.zeros((len(STRENGTHS), 1))) + constant
    strength = context.argmin(0)
    return {
        "static": (nothing, nothing, static),
        "adaptive": (increment, nothing, adaptive.min(0)),
        "context": (increment, strength, context.min(0)),
    }


def write(
    factors: Int64,
    sizes: Sequence[int],
    settings: Settings,
    recordings: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> bytes:
    """The codes `factors` [frames, factors] as bytes, frame by frame; of a factor with a stride, those of the
    frames 0, stride, 2 stride and so on of a recording."""
    encoder = Encoder()
    recordings = [len(factors)] if recordings is None else recordings
    strides = strides or [1] * len(sizes)
    models = [
        _writing(encoder, tokens_of(column, recordings, stride), size, settings)
        for column, size, stride in zip(np.ascontiguousarray(factors.T), sizes, strides, strict=True)
    ]
    rows = iter(factors.tolist())
    for frames in recordings:
        for model in models:
            model.restart()
        write_frames(encoder, models, strides, itertools.islice(rows, frames))
    return encoder.finish()


def write_frames(
    encoder: Encoder, models: Sequence[Model], strides: Sequence[int], rows: Iterable[Sequence[int]]
) -> None:
    """Write the codes of frames that follow each other, the first of which begins a block of each factor."""
    if max(strides, default=1) == 1:
        for row in rows:
            for model, symbol in zip(models, row, strict=True):
                model.encode(encoder, symbol)
        return
    for frame, row in enumerate(rows):
        for model, symbol, stride in zip(models, row, strides, strict=True):
            if frame % stride == 0:
                model.encode(encoder, symbol)


def read_frames(decoder: Decoder, models: Sequence[Model], strides: Sequence[int], rows: Int64) -> None:
    """Fill `rows` [frames, factors] by what `write_frames` wrote."""
    if max(strides, default=1) == 1:
        for row in rows:
            row[:] = [model.decode(decoder) for model in models]
        return
    last = [0] * len(models)
    for frame, row in enumerate(rows):
        for place, (model, stride) in enumerate(zip(models, strides, strict=True)):
            if frame % stride == 0:
                last[place] = model.decode(decoder)
        row[:] = last


def read(
    payload: bytes,
    frames: int,
    sizes: Sequence[int],
    settings: Settings,
    recordings: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Int64:
    """The factors [frames, factors] that `write` wrote."""
    decoder = Decoder(payload)
    models = [_reading(decoder, size, settings) for size in sizes]
    rows = np.empty((frames, len(sizes)), dtype=np.int64)
    place = 0
    for length in recordings if recordings is not None else [frames]:
        for model in models:
            model.restart()
        read_frames(decoder, models, strides or [1] * len(sizes), rows[place : place + length])
        place += length
    return rows


def _writing(encoder: Encoder, column: Int64, size: int, settings: Settings) -> Model:
    """The model of a factor; what the reader has to know of it is written."""
    if settings.model != "static" or size > MOST_CODES:
        return learning(size, settings)
    seen = Seen(column, size, Streams.one([len(column)]))
    table = bool(seen.static()[0] < seen.uniform()[0])
    encoder.encode(int(table), 1, 2)
    if not table:
        return Uniform(size)
    classes = table_classes(np.bincount(column, minlength=size))
    return Static(write_table(encoder, classes.tolist()))


def _reading(decoder: Decoder, size: int, settings: Settings) -> Model:
    if settings.model != "static" or size > MOST_CODES:
        return learning(size, settings)
    table = decoder.position(2)
    decoder.advance(table, 1, 2)
    return Static(read_table(decoder, size)) if table else Uniform(size)


def learning(size: int, settings: Settings) -> Model:
    """A model that needs nothing but its settings."""
    if size > MOST_CODES:
        return Uniform(size)
    increment = INCREMENTS[settings.increment]
    if settings.model == "context":
        return Context(size, increment, STRENGTHS[settings.strength])
    return Adaptive(size, increment)
