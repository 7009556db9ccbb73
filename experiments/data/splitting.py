"""Splits of a corpus: given by the user, or dealt out by a stable hash."""

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.data.corpus import DataError

SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
HELD_OUT_SHARE = 0.1  # of the speakers or files, for validation and for test each


@dataclass(frozen=True)
class Entry:
    """A file of a corpus. An empty speaker is an unknown one; `split` is empty until it is assigned."""

    name: str
    speaker: str
    split: str
    path: Path
    where: str = ""  # where it is listed, for messages


def assign_splits(entries: list[Entry]) -> list[Entry]:
    """Share entries out to the three splits by a hash of the speaker or, where unknown, of the name.

    So adding files moves no others. Where splits are given, only a lacking validation split is taken out of
    train. Raises `DataError` with fewer speakers or files than splits.
    """
    present = {entry.split for entry in entries}
    if present <= {""}:
        return _deal(entries, ("test", "validation"))
    if "train" in present and "validation" not in present:
        train = iter(_deal([entry for entry in entries if entry.split == "train"], ("validation",)))
        return [next(train) if entry.split == "train" else entry for entry in entries]
    return entries


def without_splits(entries: list[Entry]) -> list[Entry]:
    """The entries with no split assigned, as where only some name one."""
    return [replace(entry, split="") for entry in entries]


def _unit(entry: Entry) -> str:
    return f"speaker {entry.speaker}" if entry.speaker else entry.name


def _deal(entries: list[Entry], held_out: tuple[str, ...]) -> list[Entry]:
    order = sorted((_fraction(unit), unit) for unit in {_unit(entry) for entry in entries})
    if len(order) <= len(held_out):
        raise DataError(_too_few(entries, held_out, len(order)))
    home: dict[str, str] = {}
    for number, split in enumerate(held_out):
        free = [(value, unit) for value, unit in order if unit not in home]
        low, high = number * HELD_OUT_SHARE, (number + 1) * HELD_OUT_SHARE
        chosen = [unit for value, unit in free if low <= value < high] or [free[0][1]]
        spare = len(free) - (len(held_out) - number)  # leave one unit for every split still to come
        home.update(dict.fromkeys(chosen[:spare], split))
    return [replace(entry, split=home.get(_unit(entry), "train")) for entry in entries]


def hashed_split(unit: str) -> str:
    """The split of a speaker or file by a hash of its name alone, where nothing else is known of the corpus:
    a tenth each for test and validation."""
    number = int(_fraction(unit) / HELD_OUT_SHARE)
    return ("test", "validation")[number] if number < 2 else "train"


def _too_few(entries: list[Entry], held_out: tuple[str, ...], units: int) -> str:
    first = entries[0]
    if held_out != ("validation",):
        return (
            f"{units} speaker(s) or file(s) cannot be shared out to train and {' and '.join(held_out)}. "
            "Remedy: add audio, or use a manifest with a split column."
        )
    where = f"{first.where}: " if first.where else ""
    if first.speaker:
        return (
            f"{where}no files are of the split validation, and all training files are of one speaker, "
            f"{first.speaker!r}, who cannot be in both. Remedy: add files of another speaker as validation, "
            "or name no speaker, so that files are shared out singly."
        )
    return (
        f"{where}no files are of the split validation, and there is one training file alone. "
        "Remedy: add files of the split validation."
    )


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:8]) / 2**64


def split_of_folder(name: str) -> str:
    """The split that a folder is named after (train-clean-100, dev, test.2), or nothing."""
    match = re.fullmatch(r"(train|val|valid|validation|dev|test)([-_.].*)?", name.lower())
    return SPLIT_NAMES[match.group(1)] if match else ""


def readable_name(path: Path | str) -> str:
    """A file name as it is, as text; bytes that are no UTF-8 are shown as escapes."""
    return os.fsencode(path.as_posix() if isinstance(path, Path) else path).decode(
        "utf-8", "backslashreplace"
    )
