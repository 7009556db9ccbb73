"""Decoding of audio files: mono pieces, or the reason why there are none."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data.signal import Float64, Int16, decibels, resample, rms, to_int16

MINIMUM_SECONDS = 0.3  # PESQ needs a quarter of a second


LONGEST_SECONDS = 60.0  # a longer file is cut ...


PIECE_SECONDS = 30.0  # ... into pieces of this length


SILENT_DBFS = -75.0


OFFSET_LIMIT = 1e-3


@dataclass(frozen=True)
class Piece:
    """A clip read from a file, or the reason why there is none (`audio is None`)."""

    suffix: str
    audio: Int16 | None
    note: str = ""


def read_file(path: Path, sample_rate: int) -> Iterator[Piece]:
    """The clips of one audio file as mono int16 at `sample_rate` Hz. Never raises for a bad file."""
    try:
        with path.open("rb") as probe:
            empty = not probe.read(1)
    except OSError as error:
        yield _unreadable(error)
        return
    if empty:
        yield Piece("", None, "empty file")
        return
    # libsndfile takes names as bytes: not every one on disk is UTF-8
    yield from _read(path if os.name == "nt" else os.fsencode(path), sample_rate)


def read_bytes(data: bytes, sample_rate: int) -> Iterator[Piece]:
    """The same of the contents of an audio file."""
    if data:
        yield from _read(io.BytesIO(data), sample_rate)
    else:
        yield Piece("", None, "empty file")


def _read(source: Path | bytes | io.BytesIO, sample_rate: int) -> Iterator[Piece]:
    import soundfile

    try:
        with soundfile.SoundFile(source) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
            long = frames > LONGEST_SECONDS * rate
            notes = [] if channels == 1 else [f"{channels} channels mixed to mono"]
            if rate < sample_rate:
                notes.append(f"upsampled from {rate} Hz, nothing above {rate // 2} Hz in it")
            block = int(PIECE_SECONDS * rate) if long else -1
            start = 0
            while True:
                samples = file.read(block, dtype="float64", always_2d=True)
                if start and not len(samples):
                    return
                if not long and frames - len(samples) > 0.1 * rate:
                    notes.append(f"ends after {len(samples) / rate:.2f} of {frames / rate:.2f} s")
                suffix = f"@{start / rate:g}s" if long else ""
                yield _piece(suffix, samples.mean(axis=1), rate, sample_rate, list(notes))
                start += len(samples)
                if not long or len(samples) < block:
                    return
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        yield _unreadable(error)


def _unreadable(error: Exception) -> Piece:
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return Piece("", None, f"not readable as audio: {reason}")


def _piece(suffix: str, signal: Float64, rate: int, sample_rate: int, notes: list[str]) -> Piece:
    if not len(signal):
        return Piece(suffix, None, "no samples in it")
    if len(signal) < MINIMUM_SECONDS * rate:
        return Piece(
            suffix, None, f"too short: {len(signal) / rate:.2f} s, at least {MINIMUM_SECONDS} s needed"
        )
    if not np.isfinite(signal).all():
        return Piece(suffix, None, "contains NaN or infinite samples")
    offset = float(signal.mean())
    if abs(offset) > OFFSET_LIMIT:
        signal = signal - offset
        notes.append(f"DC offset of {offset:+.3f} removed")
    signal = resample(signal, rate, sample_rate)
    peak = float(np.abs(signal).max())
    if peak > 1.0:
        signal = signal * (0.999 / peak)
        notes.append(f"peak of {peak:.2f} scaled down to full scale")
    audio = to_int16(signal)
    level = decibels(rms(audio))
    if level < SILENT_DBFS:
        return Piece(suffix, None, f"silent: RMS below {SILENT_DBFS:g} dBFS")
    return Piece(suffix, audio, "; ".join(notes))
