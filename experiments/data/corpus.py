"""Corpora as streams of mono 16-bit clips: the contract of every kind that a study can name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.data.signal import Int16

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class DataError(ValueError):
    """Something about the user's data that the user can put right; the message says how."""

    def __init__(self, message: str) -> None:
        # A file name that is no UTF-8 must not break the terminal that shows it.
        super().__init__(message.encode("utf-8", "backslashreplace").decode())


@dataclass(frozen=True)
class Clip:
    """One clip of a corpus, or a file that gave none: then `audio` is None and `note` says why.

    level: RMS of the audio relative to full scale, where whoever made the clip has computed it.
    """

    name: str
    speaker: str
    split: str
    audio: Int16 | None
    note: str = ""
    level: float | None = None


class Corpus(Protocol):
    """A source of clips. `fingerprint` is cheap (no decoding) and changes whenever the clips might."""

    name: str
    synthetic: bool
    licence: str
    notes: str
    native_rate: int | None  # made at this rate only; other rates are resampled from it

    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def listed_splits(self) -> frozenset[str]:
        """Splits that have files, usable or not: known before anything is fetched or decoded."""
        ...

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Bring to this disk what `clips` needs; called before it."""

    def items(self, sample_rate: int, start: int = 0) -> Iterator[list[Clip]]:
        """Clips of each item of the corpus (a file, a sample of an archive), in order, from item `start` on:
        so a preparation goes on where it was killed."""
        ...
