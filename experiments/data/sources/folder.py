"""Corpora of audio files on disk, decoded in parallel, and the simplest of them: a folder."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from experiments.data import audio_files, formats
from experiments.data.corpus import Clip, DataError, Progress
from experiments.data.parallel_decoding import Source, decoded
from experiments.data.sources import layouts
from experiments.data.splitting import Entry, assign_splits, readable_name, split_of_folder, without_splits

REVISION = 2  # raise when the same files would give other clips


class AudioFiles:
    """A corpus of `Entry` items; `notes_on` are remarks on files from before decoding.

    watched: folders and lists whose times of modification tell whether files came or went.
    """

    synthetic = False
    native_rate: int | None = None

    def __init__(
        self,
        name: str,
        entries: list[Entry],
        *,
        licence: str = "not stated",
        notes: str = "",
        notes_on: Iterable[Clip] = (),
        watched: Iterable[Path] = (),
    ) -> None:
        self.name, self.entries, self.licence, self.notes = name, entries, licence, notes
        self.notes_on, self.watched = list(notes_on), list(watched)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.name} {REVISION}".encode())
        for entry in self.entries:
            try:
                status = entry.path.stat()
                state = (status.st_size, status.st_mtime_ns)
            except OSError:
                state = (-1, -1)
            digest.update(
                repr((entry.name, entry.speaker, entry.split, state)).encode("utf-8", "backslashreplace")
            )
        for clip in self.notes_on:
            digest.update(repr((clip.name, clip.note)).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.entries) + len(self.notes_on)

    def listed_splits(self) -> frozenset[str]:
        return frozenset(entry.split for entry in self.entries)

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Fetches nothing: the files are on this disk."""

    def items(self, sample_rate: int, start: int = 0) -> Iterator[list[Clip]]:
        """Decode the files in order, a few at once; a bad file is a clip without audio. The remarks of
        before are the first items."""
        yield from ([note] for note in self.notes_on[start:])
        entries = self.entries[max(0, start - len(self.notes_on)) :]
        yield from decoded(
            (Source(each.name, each.speaker, each.split, each.path) for each in entries), sample_rate
        )


def folder(path: Path) -> AudioFiles:
    """All audio files below `path`.

    Corpora in a layout of `layouts` have the speakers and splits that they name. In others, first-level
    folders named like splits (train-clean-100, dev, test) are the splits. Else at least three first-level
    folders are taken for speakers, who go to a split as a whole. Else files are dealt out singly.
    """
    if why := audio_files.folder_problem(path):
        raise DataError(f"folder:{path}: {why}")
    listing = audio_files.audio_below(path, layouts.METADATA)
    audio, left_out = listing.audio, listing.left_out
    if not audio:
        also = f"; {len(left_out)} others are not read, such as {left_out[0][1]}" if left_out else ""
        endings = ", ".join(sorted(formats.READABLE))
        raise DataError(f"folder:{path}: no audio files in it (looked for {endings}{also})")
    notes = [
        Clip(readable_name(file.relative_to(path)), "", "train", None, why) for file, why in sorted(left_out)
    ]
    relative = sorted(
        (file.relative_to(path) for file in audio), key=lambda name: os.fsencode(name.as_posix())
    )
    names = [readable_name(name) for name in relative]
    metadata = {readable_name(file.relative_to(path)): file.read_bytes for file in listing.others}
    try:
        arrangement = layouts.arranged(names, metadata) or _by_folders(relative)
    except OSError as error:
        raise DataError(f"folder:{path}: {error.filename}: {error.strerror}") from error
    entries = [
        Entry(name, place.speaker, place.split, path / file)
        for name, file, place in zip(names, relative, arrangement.places, strict=True)
        if place is not None
    ]
    if not entries:
        raise DataError(f"folder:{path}: its lists name none of the {len(audio)} audio files in it")
    return AudioFiles(
        f"folder:{readable_name(path.resolve().name)}",
        assign_splits(entries if all(entry.split for entry in entries) else without_splits(entries)),
        notes_on=[*notes, *arrangement.notes],
        watched=[*listing.folders, *(file for file in listing.others if file.suffix == ".tsv")],
    )


def _by_folders(relative: list[Path]) -> layouts.Arrangement:
    """Splits and speakers by first-level folders."""
    tops = {name.parts[0] for name in relative if len(name.parts) > 1}
    by_split = (
        bool(tops) and all(split_of_folder(top) for top in tops) and all(len(n.parts) > 1 for n in relative)
    )
    depth = 1 if by_split else 0
    speakers_known = by_split or len(tops) >= 3
    places: list[layouts.Place | None] = []
    for name in relative:
        speaker = readable_name(name.parts[depth]) if speakers_known and len(name.parts) > depth + 1 else ""
        places.append(layouts.Place(speaker, split_of_folder(name.parts[0]) if by_split else ""))
    return layouts.Arrangement(places, [])
