"""Corpora that the user lists: a CSV manifest, or lists of paths."""

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from experiments.data import audio_files
from experiments.data.corpus import Clip, DataError
from experiments.data.sources.folder import AudioFiles
from experiments.data.splitting import SPLIT_NAMES, Entry, assign_splits, readable_name
from quantizers.suggestions import did_you_mean


def manifest(path: Path) -> AudioFiles:
    """A CSV file with the columns path (relative to the file), speaker and split; others are ignored.

    Raises `DataError` naming file, line and column.
    """
    entries = []
    for line, row in _rows(path, ("path", "speaker", "split")):
        place = f"{path}, line {line}"
        split = SPLIT_NAMES.get(row["split"].strip().lower())
        if split is None:
            hint = did_you_mean(row["split"].strip().lower(), SPLIT_NAMES)
            known = ", ".join(SPLIT_NAMES)
            raise DataError(f"{place}, column split: unknown split {row['split']!r}; {hint}known: {known}")
        if not row["path"].strip():
            raise DataError(f"{place}, column path: empty; give the file's path or remove the line")
        entries.append(
            Entry(
                row["path"], row["speaker"].strip(), split, path.parent / row["path"], f"{place}, column path"
            )
        )
    return _listed(f"manifest:{readable_name(path.name)}", path.parent, entries, [path])


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    line = 1
    if why := audio_files.problem(path):
        raise DataError(f"manifest:{path}: {why}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            for column in columns:
                if column not in header:
                    hint = did_you_mean(column, header)
                    raise DataError(
                        f"{path}, line 1: no column {column!r}; {hint}the line is {','.join(header)!r}, "
                        f"needed: {', '.join(columns)}"
                    )
            line = reader.line_num + 1
            for row in reader:
                if row and len(row) != len(header):
                    raise DataError(
                        f"{path}, line {line}: {len(row)} columns where the first line has {len(header)}; "
                        "put quotes around values with commas"
                    )
                if row:
                    yield line, dict(zip(header, row, strict=True))
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: not readable as CSV ({error})") from error
    except OSError as error:
        raise DataError(f"manifest:{path}: {error.strerror}") from error


def filelist(text: str) -> AudioFiles:
    """One list of paths (split by a hash of the names), or three, `TRAIN,VALIDATION,TEST`."""
    lists = [audio_files.expanded(text)]
    if audio_files.problem(lists[0]):
        lists = [audio_files.expanded(part.strip()) for part in text.split(",")]
    if len(lists) not in (1, 3):
        raise DataError(
            f"filelist:{text}: give one list, or three as TRAIN,VALIDATION,TEST, not {len(lists)}"
        )
    entries = []
    for number, path in enumerate(lists):
        split = "" if len(lists) == 1 else ("train", "validation", "test")[number]
        if why := audio_files.problem(path):
            raise DataError(f"filelist:{path}: {why}")
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
        except OSError as error:
            raise DataError(f"filelist:{path}: {error.strerror}") from error
        for line, name in enumerate(lines, 1):
            if name.strip():
                entries.append(
                    Entry(name.strip(), "", split, path.parent / name.strip(), f"{path}, line {line}")
                )
    return _listed(f"filelist:{readable_name(lists[0].name)}", lists[0].parent, entries, lists)


def _listed(name: str, base: Path, entries: list[Entry], lists: list[Path]) -> AudioFiles:
    """Checks shared by manifests and lists, and names relative to the list or, failing that, to all files."""
    if not entries:
        raise DataError(f"{name}: it lists no files")
    base = _absolute(base)
    entries = [replace(entry, path=_absolute(entry.path)) for entry in entries]
    # A pipe, a device or a link to nothing is there: it is left out with the reason when it is read.
    missing = [entry for entry in entries if not audio_files.is_listed(entry.path)]
    if missing:
        more = f" ({len(missing) - 1} more of {len(entries)} are missing)" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0].where}: {missing[0].name[:100]!r} is not a file{more}. "
            f"Remedy: correct the path (relative paths start at {base}) or remove the line."
        )
    if not all(entry.path.is_relative_to(base) for entry in entries):
        base = Path(os.path.commonpath([entry.path.parent for entry in entries]))
    first: dict[Path, Entry] = {}
    homes: dict[str, Entry] = {}
    notes = []
    for entry in entries:
        known = first.setdefault(entry.path, entry)
        if known.split != entry.split:
            raise DataError(
                f"{entry.where}: {entry.name!r} is in {entry.split}, but also in {known.split} "
                f"({known.where}). Remedy: remove one of the two lines."
            )
        if known is not entry:
            notes.append(Clip(entry.name, "", "train", None, f"listed again ({entry.where}), used once"))
        home = homes.setdefault(entry.speaker, entry) if entry.speaker else entry
        if home.split != entry.split:
            raise DataError(
                f"{entry.where}: speaker {entry.speaker!r} is in {entry.split}, but also in {home.split} "
                f"({home.where}). Remedy: keep each speaker in one split, or leave speaker empty."
            )
    kept = [replace(entry, name=readable_name(entry.path.relative_to(base))) for entry in first.values()]
    watched = [*lists, *dict.fromkeys(entry.path.parent for entry in kept)]
    return AudioFiles(name, assign_splits(kept), notes_on=notes, watched=watched)


def _absolute(path: Path) -> Path:
    """Path without `..`. Symbolic links stay: their names are the user's, their targets often are not."""
    return Path(os.path.abspath(path))  # noqa: PTH100
