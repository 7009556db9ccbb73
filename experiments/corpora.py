"""Where audio comes from: every kind of corpus a study can name, as a stream of mono 16-bit clips."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.audio import Int16

KINDS = ("demo", "folder", "manifest", "filelist", "librispeech", "libritts", "webdataset")
USAGE = (
    "demo",
    "folder:PATH",
    "manifest:PATH",
    "filelist:PATH",
    "librispeech[:SUBSET,...]",
    "libritts[:SUBSET,...]",
    "webdataset:PATTERN",
)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class DataError(ValueError):
    """Something about the user's data that the user can put right; the message says how."""

    def __init__(self, message: str) -> None:
        # A file name that is no UTF-8 must not break the terminal that shows it.
        super().__init__(message.encode("utf-8", "backslashreplace").decode())


@dataclass(frozen=True)
class Clip:
    """One clip of a corpus, or a file that gave none: then `audio` is None and `note` says why."""

    name: str
    speaker: str
    split: str
    audio: Int16 | None
    note: str = ""


class Corpus(Protocol):
    """A source of clips. `fingerprint` is cheap (no decoding) and changes whenever the clips might."""

    name: str
    synthetic: bool
    licence: str
    notes: str
    native_rate: int | None  # made at this rate only; other rates are resampled from it

    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Bring to this disk what `clips` needs; called before it."""

    def clips(self, sample_rate: int) -> Iterator[Clip]: ...


class Demo:
    """The embedded synthetic corpus."""

    name = "demo"
    synthetic = True
    native_rate: int | None = 24_000

    def __init__(self) -> None:
        from experiments import demo_corpus

        self.licence, self.notes = demo_corpus.LICENCE, demo_corpus.NOTES

    def fingerprint(self) -> str:
        from experiments import demo_corpus

        return demo_corpus.fingerprint()

    def __len__(self) -> int:
        from experiments import demo_corpus

        return len(demo_corpus.utterances())

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Nothing to fetch: the voice is in hibari's wheel."""

    def clips(self, sample_rate: int) -> Iterator[Clip]:
        from experiments import demo_corpus

        try:
            for utterance, audio in demo_corpus.synthesise():
                yield Clip(utterance.name, utterance.voice.name, utterance.split, audio)
        except RuntimeError as error:
            raise DataError(f"{error}. Remedy: reinstall hibari-tts, or use --data folder:PATH.") from error


def parse(spec: str) -> Corpus:
    """The corpus that `spec` names, in one of the forms of `USAGE`; a filelist may be three, with commas.

    Raises `DataError` for an unknown kind, a missing path, or a wrong list.
    """
    kind, _, rest = spec.partition(":")
    if kind == "demo" and not rest:
        return Demo()
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(f"unknown corpus {spec!r}.{hint} Known: {', '.join(USAGE)}.")
    if kind in ("librispeech", "libritts"):
        from experiments import openslr

        return openslr.parse(kind, rest)
    if kind == "webdataset":
        from experiments import tar_corpus

        return tar_corpus.parse(rest)
    if not rest:
        raise DataError(f"corpus {spec!r} lacks its path: write {USAGE[KINDS.index(kind)]}")
    if kind == "demo":
        raise DataError(f"corpus {spec!r}: demo takes no path, write demo")
    from experiments import audio_files, listings

    if kind == "filelist":
        return listings.filelist(rest)
    path = Path(rest).expanduser()
    return audio_files.folder(path) if kind == "folder" else listings.manifest(path)
