"""A drawn figure with its data, and the name of its file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawn(NamedTuple):
    """A figure, its file name without suffix, and its data."""

    name: str
    figure: Figure
    data: pd.DataFrame


def file_name(text: str) -> str:
    """A label as a portable file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"
