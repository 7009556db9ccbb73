"""Corpora by name: `parse` makes the source that a study names."""

from experiments.data import audio_files
from experiments.data.corpus import Corpus, DataError
from experiments.data.sources import folder, openslr
from experiments.data.sources import lists as listings
from experiments.data.sources import tar_shards as tar_corpus
from experiments.data.sources.demo import Demo
from quantizers.suggestions import did_you_mean

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


def parse(spec: str) -> Corpus:
    """The corpus that `spec` names, in one of the forms of `USAGE`; a filelist may be three, with commas.

    Raises `DataError` for an unknown kind, a missing path, or a wrong list.
    """
    kind, _, rest = spec.partition(":")
    if kind == "demo" and not rest:
        return Demo()
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS)
        raise DataError(f"unknown corpus {spec!r}; {hint}known: {', '.join(USAGE)}")
    if kind in ("librispeech", "libritts"):
        return openslr.parse(kind, rest)
    if kind == "webdataset":
        return tar_corpus.parse(rest)
    if not rest:
        raise DataError(f"corpus {spec!r} lacks its path: write {USAGE[KINDS.index(kind)]}")
    if kind == "demo":
        raise DataError(f"corpus {spec!r}: demo takes no path, write demo")

    if kind == "filelist":
        return listings.filelist(rest)
    path = audio_files.expanded(rest)
    return folder.folder(path) if kind == "folder" else listings.manifest(path)
