"""Labels of rows, and the series that joins the rows of one quantizer over rates."""

from __future__ import annotations

import re
from collections.abc import Mapping

from experiments.tracking.schema import Tag

# A rate at the end of a label: "fsq 12 bit", "fsq @ 3.0 kbit/s", "fsq@12", "fsq (1.5 kbps)".
_RATE = re.compile(r"[\s@/_(-]*(?:@\s*\d+(?:\.\d+)?|\d+(?:\.\d+)?\s*(?:bits?|kbps|kbit/s|bit/s))\)?$")


def series(label: str) -> str:
    """The label without a rate at its end: what stays the same along a rate-distortion curve."""
    return _RATE.sub("", label) or label


def series_of(tags: Mapping[str, str], label: str) -> str:
    """The series of a run that a study shows as `label`.

    The run's own tag says it. Runs of stores from before that tag, and runs that another study calls
    differently, go by the end of the label. A reference codec is one series, but audio from a folder goes by
    its label.
    """
    if tags.get(Tag.SERIES) and tags.get(Tag.LABEL) == label:
        return tags[Tag.SERIES]
    codec = tags.get(Tag.QUANTIZER, "").removeprefix("reference:")
    if tags.get(Tag.REFERENCE) == "true" and codec and codec != "folder":
        return codec
    return series(label)
