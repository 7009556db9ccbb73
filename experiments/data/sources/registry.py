"""Corpora by name: `parse` makes the source that a study names."""

from experiments.data import audio_files
from experiments.data.corpus import Corpus, DataError
from experiments.data.sources import archives, folder, hugging_face, openslr
from experiments.data.sources import lists as listings
from experiments.data.sources import tar_shards as tar_corpus
from experiments.data.sources.demo import Demo
from quantizers.suggestions import did_you_mean

LOCAL = ("demo", "folder", "manifest", "filelist", "tar")
KINDS = (*LOCAL, "librispeech", "libritts", "webdataset", "tar-stream", "datasets")


USAGE = (
    "demo",
    "folder:PATH",
    "manifest:PATH",
    "filelist:PATH",
    "tar:PATTERN",
    "librispeech[:SUBSET,...]",
    "libritts[:SUBSET,...]",
    "webdataset:PATTERN",
    "tar-stream:PATTERN",
    "datasets:NAME[:CONFIGURATION]",
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
    if kind in ("webdataset", "tar-stream"):
        return tar_corpus.parse(kind, rest)
    if not rest:
        raise DataError(f"corpus {spec!r} lacks its path: write {USAGE[KINDS.index(kind)]}")
    if kind == "demo":
        raise DataError(f"corpus {spec!r}: demo takes no path, write demo")

    if kind == "tar":
        return archives.archives(rest)
    if kind == "datasets":
        return hugging_face.parse(rest)
    if kind == "filelist":
        return listings.filelist(rest)
    path = audio_files.expanded(rest)
    return folder.folder(path) if kind == "folder" else listings.manifest(path)
