"""Labels of rows: the series that joins the rows of one quantizer over rates."""

from __future__ import annotations

import re
from collections.abc import Mapping

from experiments.tracking.schema import Tag

# A rate at the end of a label: "fsq 12 bit", "fsq @ 3.0 kbit/s", "fsq@12", "fsq (1.5 kbps)".
_RATE = re.compile(r"[\s@/_(-]*(?:@\s*\d+(?:\.\d+)?|\d+(?:\.\d+)?\s*(?:bits?|kbps|kbit/s|bit/s))\)?$")
REFERENCE = "reference:"  # begins the name of what is not a quantizer


def series(label: str) -> str:
    """The label without a rate at its end: what stays the same along a rate-distortion curve.

    A guess, for labels that stand alone; what a run has logged goes before: `logged_series`.
    """
    return _RATE.sub("", label) or label


def logged_series(tags: Mapping[str, str], label: str) -> str:
    """The series of a run that is shown as `label`.

    It is the one that the run has logged, unless another study shows the run under another label. Stores
    that are older than this tag have one curve a reference codec, audio from a folder and quantizers by
    their labels.
    """
    known = tags.get(Tag.SERIES, "")
    if known and tags.get(Tag.LABEL) == label:
        return known
    name = tags.get(Tag.QUANTIZER, "")
    codec = name.removeprefix(REFERENCE)
    return codec if codec not in (name, "folder") else series(label)
