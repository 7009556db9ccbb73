"""Drawn figures with their data, and the names of their files."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BYTES = 160  # of a name, so that what is put before and after it leaves it below 200
_HASH = 8  # hexadecimal digits
# What follows "voronoi-" in the names of other figures than those of one label.
_TAKEN = re.compile(r"slice-|training-|tilings$")


class Drawn(NamedTuple):
    """A figure, its file name without suffix, its data, and the label of the one system or the rate of the
    systems that it shows, if it shows one."""

    name: str
    figure: Figure
    data: pd.DataFrame
    label: str = ""
    rate: str = ""


def file_name(text: str) -> str:
    """A text as a portable file name: letters of all alphabets, digits, `.`, `_` and `-`, 160 bytes at most.

    A text that is longer is cut and ends with a hash of the whole.
    """
    plain = unicodedata.normalize("NFC", text)
    # A letter that is written as several characters keeps its marks.
    kept = [
        letter if unicodedata.category(letter)[0] in "LMN" or letter in "._-" else " " for letter in plain
    ]
    name = "-".join("".join(kept).split()).strip("-.") or "unnamed"
    return name if len(name.encode()) <= MOST_BYTES else _with_hash(name, text)


def file_names(labels: Iterable[str]) -> dict[str, str]:
    """A portable file name for each of the labels of a study, no two alike in any file system.

    Names that would be alike, if only in upper and lower case, or that another figure has, end with a hash
    of their label.
    """
    names = {label: file_name(label) for label in labels}
    counts = Counter(name.casefold() for name in names.values())
    return {
        label: _with_hash(name, label) if counts[name.casefold()] > 1 or _TAKEN.match(name) else name
        for label, name in names.items()
    }


def _with_hash(name: str, text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    room = MOST_BYTES - _HASH - 1
    return f"{name.encode('utf-8', 'ignore')[:room].decode('utf-8', 'ignore').rstrip('-.')}-{digest}"
