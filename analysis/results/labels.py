"""Labels of rows: the series that joins the rows of one quantizer over rates."""

from __future__ import annotations

import re

import pandas as pd

# A rate at the end of a label: "fsq 12 bit", "fsq @ 3.0 kbit/s", "fsq@12", "fsq (1.5 kbps)".
_RATE = re.compile(r"[\s@/_(-]*(?:@\s*\d+(?:\.\d+)?|\d+(?:\.\d+)?\s*(?:bits?|kbps|kbit/s|bit/s))\)?$")


def series(label: str) -> str:
    """The label without a rate at its end: what stays the same along a rate-distortion curve."""
    return _RATE.sub("", label) or label


def _reference_series(run: pd.Series) -> str:
    """One curve a codec; audio from a folder goes by its label."""
    name = str(run["quantizer"]).removeprefix("reference:")
    return series(str(run["label"])) if name == "folder" else name
