"""Audio of a file or of stdin, in parts, at the sample rate of a codec."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from codec.resampling import StreamResampler, rate_problem
from experiments.commands.bitstreams.wav_streams import NotWAV, WAVReader
from experiments.data.audio_files import UnreadableFile
from experiments.data.recording import open_recording
from experiments.data.signal import KAISER

NOTHING = "nothing arrived; did the command before the pipe fail?"
_PART_FRAMES = 2**16


class AudioInput:
    """Mono audio at `sample_rate` Hz of a recording, read once, in parts.

    source: the path of a file, or a stream that is read to its end. WAV of a stream is read as it arrives,
    other formats into a temporary file first. remark: on a recording that ended too early, once `parts` has
    ended.

    `parts` raises UnreadableFile with the reason.
    """

    def __init__(self, source: Path | BinaryIO, sample_rate: int) -> None:
        self._source, self._rate = source, sample_rate
        self.remark = ""

    def parts(self) -> Iterator[Tensor]:
        """Audio [samples] float32, at most some seconds at once."""
        resampler: StreamResampler | None = None
        for rate, samples in self._recorded():
            if not np.isfinite(samples).all():
                raise UnreadableFile("it has samples that are NaN or infinite")
            if resampler is None:
                resampler = StreamResampler(rate, self._rate, KAISER)
            made = resampler.feed(samples)
            if len(made):
                yield torch.from_numpy(made).float()
        if resampler is not None and len(rest := resampler.finish()):
            yield torch.from_numpy(rest).float()

    def _recorded(self) -> Iterator[tuple[int, np.ndarray]]:
        """The rate in Hz, and samples as they come."""
        if isinstance(self._source, Path):
            yield from self._of_file(self._source)
            return
        read: Callable[[int], bytes] = getattr(self._source, "read1", self._source.read)
        taken = bytearray()
        try:
            reader = WAVReader(read, taken)
        except NotWAV:
            if not taken:
                raise UnreadableFile(NOTHING) from None
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "audio"
                with path.open("wb") as file:
                    file.write(taken)
                    shutil.copyfileobj(self._source, file)
                yield from self._of_file(path)
            return
        if why := rate_problem(reader.rate):
            raise UnreadableFile(why)
        for samples in reader.parts():
            yield reader.rate, samples
        self.remark = reader.ending()

    def _of_file(self, path: Path) -> Iterator[tuple[int, np.ndarray]]:
        with open_recording(path) as recording:
            while len(samples := recording.read(_PART_FRAMES, seek=False)):
                yield recording.rate, samples
            self.remark = recording.ending()


def collected(parts: Iterator[Tensor], samples: int) -> tuple[Tensor, bool]:
    """The first `samples` of `parts` and what came with them, and whether there is no more."""
    taken: list[Tensor] = []
    while sum(map(len, taken)) < samples:
        part = next(parts, None)
        if part is None:
            return torch.cat([torch.zeros(0), *taken]), True
        taken.append(part)
    return torch.cat(taken), False


def first_bytes(stream: BinaryIO, count: int) -> tuple[bytes, Callable[[int], bytes]]:
    """The first bytes of a stream, fewer where it ends, and a `read` that begins with them again."""
    content = b""
    while len(content) < count and (part := stream.read(count - len(content))):
        content += part
    held = io.BytesIO(content)

    def read(size: int) -> bytes:
        return held.read(size) or stream.read(size)

    return content, read
