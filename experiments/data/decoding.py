"""Decoding of audio files: mono pieces, or the reason why there are none."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data import audio_files
from experiments.data.recording import Recording, UnreadableAudio, open_recording
from experiments.data.signal import Float64, Int16, decibels, resample, rms, to_int16

MINIMUM_SECONDS = 0.3  # PESQ needs a quarter of a second
LONGEST_SECONDS = 60.0  # a longer file is cut ...
PIECE_SECONDS = 30.0  # ... into pieces of this length
SILENT_DBFS = -75.0
OFFSET_LIMIT = 1e-3
LARGEST = 2.0**32  # integers written as floats are scaled down; what lies beyond them is damage


@dataclass(frozen=True)
class Piece:
    """A clip read from a file, or the reason why there is none (`audio is None`). level: its RMS."""

    suffix: str
    audio: Int16 | None
    note: str = ""
    level: float | None = None


def read_audio(source: Path | bytes, sample_rate: int) -> Iterator[Piece]:
    """The clips of one audio file, or of its contents, as mono int16 at `sample_rate` Hz.

    Never raises: whatever is wrong with a file is the note of a piece.
    """
    try:
        with open_recording(source) as recording:
            yield from _pieces(recording, sample_rate)
    except UnreadableAudio as error:
        yield Piece("", None, f"not readable as audio: {error}")
    except Exception as error:  # MemoryError, too: one file never ends a corpus
        yield Piece("", None, audio_files.reason(error))


def _pieces(recording: Recording, sample_rate: int) -> Iterator[Piece]:
    rate, channels = recording.rate, recording.channels
    notes = [] if channels == 1 else [f"{channels} channels mixed to mono"]
    if rate < sample_rate:
        notes.append(f"upsampled from {rate} Hz, nothing above {rate // 2} Hz in it")
    most = int(LONGEST_SECONDS * rate)
    # A file whose header tells a lie about a long length keeps the names of pieces.
    whole = np.empty(0) if (recording.stated or 0) > most else recording.read(most + 1)
    long = (recording.stated or 0) > most or len(whole) > most
    start = 0
    for signal, last in _lookahead(_cut(recording, whole, int(PIECE_SECONDS * rate)) if long else [whole]):
        ending = recording.ending() if last else ""
        suffix = f"@{start / rate:g}s" if long else ""
        yield _piece(suffix, signal, rate, sample_rate, [*notes, *filter(None, [ending])])
        start += len(signal)


def _cut(recording: Recording, head: Float64, block: int) -> Iterator[Float64]:
    """`head` and what follows it in pieces of `block` samples, the last one shorter; at least one."""
    first = True
    while True:
        if len(head) < block:
            head = np.concatenate([head, recording.read(block - len(head))])
        if not len(head) and not first:
            return
        yield head[:block]
        if len(head) < block:
            return
        first, head = False, head[block:]


def _lookahead(signals: Iterable[Float64]) -> Iterator[tuple[Float64, bool]]:
    """Each of `signals`, and whether it is the last."""
    held: Float64 | None = None
    for signal in signals:
        if held is not None:
            yield held, False
        held = signal
    if held is not None:
        yield held, True


def _piece(suffix: str, signal: Float64, rate: int, sample_rate: int, notes: list[str]) -> Piece:
    if not len(signal):
        return Piece(suffix, None, "no samples in it")
    if len(signal) < MINIMUM_SECONDS * rate:
        short = f"too short: {len(signal) / rate:.2f} s, at least {MINIMUM_SECONDS} s needed"
        return Piece(suffix, None, short)
    if not np.isfinite(signal).all():
        return Piece(suffix, None, "contains NaN or infinite samples")
    if (peak := float(np.abs(signal).max())) > LARGEST:
        return Piece(suffix, None, f"samples up to {peak:.3g}, where full scale is 1")
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
    level = rms(audio)
    if decibels(level) < SILENT_DBFS:
        return Piece(suffix, None, f"silent: RMS below {SILENT_DBFS:g} dBFS")
    return Piece(suffix, audio, "; ".join(notes), level)
