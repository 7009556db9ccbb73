"""Outputs that are written in parts: to stdout at once, to a file when they are whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
import typer

from experiments.commands import outputs
from experiments.commands.bitstreams import wav_streams
from experiments.commands.outputs import STANDARD_STREAM

_FLOAT_FORMATS = ("WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")  # whose samples can be float32


class Output:
    """Where bytes go. live: whether they leave at once, so that nothing can be changed afterwards."""

    def __init__(self, file: IO[bytes], live: bool) -> None:
        self.file, self.live = file, live
        self.size = 0

    def write(self, content: bytes) -> None:
        """Write, and see that it leaves."""
        self.file.write(content)
        self.size += len(content)
        if self.live:
            self.file.flush()


@contextmanager
def opened(target: str) -> Iterator[Output]:
    """An output to a file or stdout. A file is kept on disk aside until its end, and not written at all where
    an error comes before it. Raises OutputError where it was written elsewhere."""
    if target == STANDARD_STREAM:
        yield Output(typer.get_binary_stream("stdout"), live=True)
        return
    with tempfile.TemporaryFile() as file:
        yield Output(file, live=False)

        def copy(path: Path) -> None:
            file.seek(0)
            with path.open("wb") as written:
                shutil.copyfileobj(file, written)

        if problem := outputs.save(Path(target), copy):
            raise outputs.OutputError(problem)


class AudioWriter:
    """An audio file of mono float32 samples in parts. kind: libsndfile's name of its format; WAV is written
    here, since libsndfile writes the time of day into it, and cannot write to a pipe."""

    def __init__(self, output: Output, sample_rate: int, kind: str) -> None:
        self._output, self._rate, self.samples = output, sample_rate, 0
        self._file: Any = None
        if kind == "WAV":
            output.write(wav_streams.header(sample_rate, None))
        else:
            subtype = "FLOAT" if kind in _FLOAT_FORMATS else None
            file = output.file
            self._file = soundfile.SoundFile(file, "w", sample_rate, 1, subtype=subtype, format=kind)

    def write(self, samples: np.ndarray) -> None:
        """Write `samples` [samples] float32."""
        self.samples += len(samples)
        if self._file is not None:
            self._file.write(samples)
        else:
            self._output.write(samples.astype("<f4").tobytes())

    def close(self) -> None:
        """End the file: a header is corrected where that can be."""
        if self._file is not None:
            self._file.close()
        elif not self._output.live:
            self._output.file.seek(0)
            self._output.file.write(wav_streams.header(self._rate, self.samples))
