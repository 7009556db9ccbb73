"""Payload: the codes of recordings as bytes, by a model whose settings are chosen by their length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codec.bitstream.lengths import Seen, symbols_before
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
    factors: Int64, sizes: Sequence[int], recordings: Sequence[int] | None = None
) -> dict[str, Length]:
    """The best settings of each of `MODELS` for `factors` [frames, factors], and their length in bits.

    recordings: frames of each recording, where there are several; what a model learned stays, while contexts
    do not reach beyond the beginning of one.
    """
    lengths = recordings if recordings is not None else [len(factors)]
    constant, static = 0.0, 0.0
    seen = []
    for column, size in zip(np.ascontiguousarray(factors.T), sizes, strict=True):
        if size > MOST_CODES:
            constant += len(column) * math.log2(size)
            continue
        seen.append(Seen(column, symbols_before(column, lengths), size))
        static += 1 + min(seen[-1].static(), seen[-1].uniform())  # a bit tells which

    def best(options: int, length: Callable[[int], float]) -> tuple[int, float]:
        every = [length(option) for option in range(options)]
        return int(np.argmin(every)), constant + min(every)

    increment, adaptive = best(
        len(INCREMENTS), lambda i: math.fsum(one.adaptive(INCREMENTS[i]) for one in seen)
    )
    strength, context = best(
        len(STRENGTHS),
        lambda s: math.fsum(one.context(INCREMENTS[increment], STRENGTHS[s]) for one in seen),
    )
    return {
        "static": Length(Settings("static"), constant + static),
        "adaptive": Length(Settings("adaptive", increment), adaptive),
        "context": Length(Settings("context", increment, strength), context),
    }


def write(
    factors: Int64, sizes: Sequence[int], settings: Settings, recordings: Sequence[int] | None = None
) -> bytes:
    """The codes `factors` [frames, factors] as bytes, frame by frame."""
    encoder = Encoder()
    models = [
        _writing(encoder, column, size, settings)
        for column, size in zip(np.ascontiguousarray(factors.T), sizes, strict=True)
    ]
    rows = iter(factors.tolist())
    for frames in recordings if recordings is not None else [len(factors)]:
        for model in models:
            model.restart()
        for _ in range(frames):
            for model, symbol in zip(models, next(rows), strict=True):
                model.encode(encoder, symbol)
    return encoder.finish()


def read(
    payload: bytes,
    frames: int,
    sizes: Sequence[int],
    settings: Settings,
    recordings: Sequence[int] | None = None,
) -> Int64:
    """The factors [frames, factors] that `write` wrote."""
    decoder = Decoder(payload)
    models = [_reading(decoder, size, settings) for size in sizes]
    rows = np.empty((frames, len(sizes)), dtype=np.int64)
    place = 0
    for length in recordings if recordings is not None else [frames]:
        for model in models:
            model.restart()
        for row in rows[place : place + length]:
            row[:] = [model.decode(decoder) for model in models]
        place += length
    return rows


def _writing(encoder: Encoder, column: Int64, size: int, settings: Settings) -> Model:
    """The model of a factor; what the reader has to know of it is written."""
    if settings.model != "static" or size > MOST_CODES:
        return _learning(size, settings)
    seen = Seen(column, np.full_like(column, -1), size)
    table = seen.static() < seen.uniform()
    encoder.encode(int(table), 1, 2)
    if not table:
        return Uniform(size)
    classes = table_classes(np.bincount(column, minlength=size))
    return Static(write_table(encoder, classes.tolist()))


def _reading(decoder: Decoder, size: int, settings: Settings) -> Model:
    if settings.model != "static" or size > MOST_CODES:
        return _learning(size, settings)
    table = decoder.position(2)
    decoder.advance(table, 1, 2)
    return Static(read_table(decoder, size)) if table else Uniform(size)


def _learning(size: int, settings: Settings) -> Model:
    """A model that needs nothing but its settings."""
    if size > MOST_CODES:
        return Uniform(size)
    increment = INCREMENTS[settings.increment]
    if settings.model == "context":
        return Context(size, increment, STRENGTHS[settings.strength])
    return Adaptive(size, increment)
