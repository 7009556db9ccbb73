"""Layouts of published corpora: speaker and split of a file, by its path or by what the corpus says of it.

LibriSpeech, LibriTTS(-R) and MLS: the path. Emilia: a `.json` beside each file. Common Voice: its `.tsv`.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from experiments.data.corpus import Clip, DataError
from experiments.data.splitting import SPLIT_NAMES, split_of_folder

METADATA = (".json", ".tsv")  # endings of files that say something of others
COMMON_VOICE = {"test.tsv": "test", "dev.tsv": "validation", "train.tsv": "train"}
WITHOUT_SPLITS = "validated.tsv"

Read = Callable[[], bytes]


class Place(NamedTuple):
    """The speaker and the split of a file, each empty where unknown."""

    speaker: str
    split: str


class Arrangement(NamedTuple):
    """A place for each file, or None where the corpus leaves it out; and remarks on the corpus."""

    places: list[Place | None]
    notes: list[Clip]


def of_path(name: str) -> Place | None:
    """The place of a file of LibriSpeech, LibriTTS or MLS: `.../SPEAKER/BOOK/SPEAKER_BOOK_...` or with
    hyphens, below a folder that may be named like a split. None for any other file."""
    *above, speaker, book, file = ("", "", *name.split("/"))
    if not speaker or not any(file.startswith(f"{speaker}{mark}{book}{mark}") for mark in "-_"):
        return None
    return Place(speaker, _split_above(above))


def _split_above(folders: Sequence[str]) -> str:
    """The split that the nearest of the `folders` above a file is named after, or nothing."""
    return next(filter(None, map(split_of_folder, reversed(folders))), "")


def of_json(content: bytes) -> Place | None:
    """The place that the `.json` of a file tells by `speaker`, as in Emilia. None where it tells none."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not values.get("speaker"):
        return None
    return Place(str(values["speaker"]), SPLIT_NAMES.get(str(values.get("split", "")).lower(), ""))


def arranged(audio: Sequence[str], metadata: Mapping[str, Read]) -> Arrangement | None:
    """The arrangement of a corpus with these audio files, names with `/` relative to the corpus.

    metadata: the files ending in `METADATA`. None where it is no layout that is known. Raises DataError for
    a list of Common Voice that cannot be read.
    """
    lists = {name: read for name, read in metadata.items() if name.endswith(".tsv")}
    if folders := _common_voice_folders(audio, lists):
        return _common_voice(audio, folders, lists)
    by_path = [of_path(name) for name in audio]
    if all(by_path):
        return Arrangement(by_path, [])
    if (first := metadata.get(_beside(audio[0]))) is None or of_json(first()) is None:
        return None
    return Arrangement([_told(name, metadata.get(_beside(name))) for name in audio], [])


def _told(name: str, read: Read | None) -> Place:
    place = (read and of_json(read())) or Place("", "")
    return place._replace(split=place.split or _split_above(name.split("/")[:-1]))


def _beside(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".json"))


def _common_voice_folders(audio: Sequence[str], lists: Mapping[str, Read]) -> list[str]:
    """Folders of languages, each with lists that name clients, beside a folder `clips`."""
    if not lists:
        return []
    homes = {name.rpartition("/clips/")[0] if "/clips/" in name else "" for name in audio if "clips/" in name}
    named = (*COMMON_VOICE, WITHOUT_SPLITS)
    return sorted(
        home
        for home in homes
        if any(_has_clients(lists[path]) for name in named if (path := _joined(home, name)) in lists)
    )


def _has_clients(read: Read) -> bool:
    header = read()[:4096].decode("utf-8", "replace").splitlines()[:1]
    return bool(header) and {"client_id", "path"} <= set(header[0].split("\t"))


def _joined(home: str, name: str) -> str:
    return f"{home}/{name}" if home else name


def _common_voice(audio: Sequence[str], folders: list[str], lists: Mapping[str, Read]) -> Arrangement:
    places: dict[str, Place] = {}
    notes: list[Clip] = []
    homes: dict[str, str] = {}  # of speakers: in several languages they may be in several splits
    present = set(audio)
    for name, split in {**COMMON_VOICE, WITHOUT_SPLITS: ""}.items():
        for folder in folders:
            path = _joined(folder, name)
            if path not in lists or (not split and _with_splits(folder, lists)):
                continue
            for client, clip in _rows(path, lists[path]):
                clip = _joined(folder, f"clips/{clip}")
                if clip not in present:
                    notes.append(Clip(clip, client, split or "train", None, f"in {name}, but not there"))
                elif homes.setdefault(client, split) != split:
                    why = f"its speaker is in {homes[client]} of another language"
                    notes.append(Clip(clip, client, split, None, why))
                else:
                    places.setdefault(clip, Place(client, split))
    noted = {note.name for note in notes}
    if others := len(present - places.keys() - noted):
        lists_used = ", ".join(COMMON_VOICE)
        notes.append(Clip("clips", "", "train", None, f"{others} files in none of {lists_used}"))
    return Arrangement([places.get(name) for name in audio], notes)


def _with_splits(folder: str, lists: Mapping[str, Read]) -> bool:
    return any(_joined(folder, name) in lists for name in COMMON_VOICE)


def _rows(path: str, read: Read) -> Iterator[tuple[str, str]]:
    """Client and file name of each row of a list."""
    try:
        text = read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from error
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    if rows.fieldnames is None or not {"client_id", "path"} <= set(rows.fieldnames):
        raise DataError(f"{path}: no columns client_id and path, which each list of Common Voice has")
    for row in rows:
        client, name = row["client_id"] or "", row["path"] or ""
        if name:
            yield client, name if PurePosixPath(name).suffix else f"{name}.mp3"
