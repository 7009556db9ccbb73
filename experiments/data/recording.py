"""Recordings: one audio file, read from its beginning to where it ends, whatever its header says."""

import functools
import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec.resampling import rate_problem
from experiments.data import audio_files, formats
from experiments.data.audio_files import UnreadableFile

BLOCK = 4096  # frames that are read at once: so many are lost, at most, before a damaged place
BLOCK_VALUES = 2**18  # frames times channels, at most
UNKNOWN_FRAMES = 2**62  # libsndfile's count where a header names none is above
MISSING_SECONDS = 0.1  # a file may be shorter than its header says by so much
OPEN_ENDED_BYTES = 0x7FFF0000  # sizes from here on are written by programs that do not know them yet
OGG_TAIL = 2**16 + 2**10  # a page and more


class UnreadableAudio(UnreadableFile):
    """A file whose contents are no audio that can be read."""


class Recording:
    """An open audio file: `rate` in Hz, `channels`, and `stated`, frames by the header, None if unknown.

    Reads on without ever seeking: FLAC of unknown length, GSM 6.10 and some ADPCM cannot.
    """

    def __init__(self, file: Any, cut: str) -> None:
        self.rate, self.channels = int(file.samplerate), int(file.channels)
        frames = int(file.frames)
        self.stated = frames if 0 <= frames < UNKNOWN_FRAMES else None
        self.position = 0
        self.damage = ""  # why reading stopped before the end, once it has
        self._file, self._cut = file, cut

    @property
    def seconds(self) -> float:
        """Seconds read so far."""
        return self.position / self.rate

    def read(self, frames: int, dtype: str = "float64", *, seek: bool = True) -> NDArray[Any]:
        """The next `frames` frames, channels averaged, float [samples]; fewer where the file ends.

        seek: whether MP3 is decoded anew from there, as clips of long files always were; without it, parts
        are what one reading of the whole gives.
        Damage ends the file, see `damage`. Raises UnreadableAudio where nothing comes before it.
        """
        parts: list[NDArray[Any]] = []
        left = frames
        while left > 0 and not self.damage:
            asked = min(left, max(1, min(BLOCK, BLOCK_VALUES // self.channels)))
            try:
                samples = self._file.read(asked, dtype=dtype, always_2d=True)
            except Exception as error:
                self.damage = audio_files.reason(error)
                break
            if not len(samples):
                break
            parts.append(samples[:, 0] if self.channels == 1 else samples.mean(axis=1))
            left -= len(samples)
            self.position += len(samples)
        if self.damage and not self.position:
            raise UnreadableAudio(self.damage)
        if seek and self._file.format == "MP3" and parts and not left:
            # Decoding differs by the last bits after a seek; clips of long files were always cut so.
            self._file.seek(self.position)
        return np.concatenate(parts) if parts else np.empty(0, dtype)

    def ending(self) -> str:
        """Remark on the end of a file that was read to its end: cut, or damaged; empty if neither."""
        ended = f"ends after {self.seconds:.2f}"
        stated = (self.stated or 0) / self.rate
        lied = _stated_by_chunks(self._file.extra_info)
        if lied is not None:
            stated = self.seconds * lied
        if stated - self.seconds > MISSING_SECONDS:
            ended += f" of {stated:.2f} s"
            return f"{ended}: {self.damage}" if self.damage else ended
        if self.damage:
            return f"{ended} s: {self.damage}"
        return f"{ended} s, {self._cut}" if self._cut else ""


@contextmanager
def open_recording(source: Path | bytes) -> Iterator[Recording]:
    """The audio file at a path, or with these contents. Raises UnreadableFile with the reason."""
    with ExitStack() as stack:
        held = _in_memory(source) if isinstance(source, bytes) else audio_files.opened(source)
        descriptor = stack.enter_context(held)
        size = os.fstat(descriptor).st_size
        if not size:
            raise UnreadableFile("empty file")
        os.lseek(descriptor, max(0, size - OGG_TAIL), os.SEEK_SET)
        tail = os.read(descriptor, OGG_TAIL)
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            file = stack.enter_context(_sequential()(_opens(source, descriptor), closefd=False))
            container = file.format
        except Exception as error:
            raise UnreadableAudio(audio_files.reason(error)) from error
        if container not in formats.CONTAINERS:
            raise UnreadableFile(f"{container} cannot be read: convert it to FLAC")
        if why := rate_problem(file.samplerate):
            raise UnreadableFile(why)
        yield Recording(file, _cut_ogg(tail) if container == "OGG" else "")


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """A descriptor of a file with `content` that lies on no disk, where the system has such files."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("audio")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            yield descriptor
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryFile() as temporary:
            temporary.write(content)
            temporary.flush()
            yield temporary.fileno()


def _opens(source: Path | bytes, descriptor: int) -> Any:
    """Source for libsndfile. By a path, it would take a text named x.au for raw samples."""
    if os.name != "nt":
        return descriptor
    return io.BytesIO(source) if isinstance(source, bytes) else source  # descriptors are of another library


@functools.cache
def _sequential() -> Any:
    """soundfile's reader without its seek after each read, which some files do not survive."""
    import soundfile

    class Sequential(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return Sequential


def _stated_by_chunks(log: str) -> float | None:
    """Factor by which a file should be longer by its outermost chunk, as libsndfile noted; None if not."""
    for stated, actual in re.findall(
        r"^\s*(?:RIFF|Riff size|riff|FORM|Data Size)\s*: (\d+) \(should be (\d+)\)", log, re.MULTILINE
    ):
        if int(actual) < int(stated) < OPEN_ENDED_BYTES and int(actual):
            return int(stated) / int(actual)
    return None


def _cut_ogg(tail: bytes) -> str:
    """Remark on an Ogg file with the last bytes `tail` whose last page is not marked as the last."""
    page = tail.rfind(b"OggS")
    last = page >= 0 and len(tail) > page + 5 and tail[page + 5] & 4
    return "" if last else "before its last page"
