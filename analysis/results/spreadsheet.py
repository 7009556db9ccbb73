"""Text in CSV files that a spreadsheet is not to take for a formula."""

from __future__ import annotations

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how one begins (OWASP, CSV injection)


def plain(text: str) -> str:
    """`text` with a quotation mark before what would begin a formula; a number stays as it is."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def plain_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with `plain` texts and names of columns."""
    changed = {}
    for name in frame:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            values = [plain(value) if isinstance(value, str) else value for value in frame[name]]
            if values != list(frame[name]):
                changed[name] = values
    if changed:
        frame = frame.copy()
        for name, values in changed.items():
            frame[name] = values
    return frame.rename(columns=lambda name: plain(str(name)))
