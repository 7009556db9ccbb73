"""Options of a quantizer as its run logged them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_OPTIONS = "param/quantizer.options."  # of logged parameters


def logged_options(run: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the quantizer of one row of `Results.runs`, by name; empty where none were logged."""
    return {
        str(name).removeprefix(_OPTIONS): _parsed(value)
        for name, value in run.items()
        if str(name).startswith(_OPTIONS) and isinstance(value, str) and value
    }


def parameter(run: Mapping[str, Any], name: str) -> str | None:
    """A logged option of the run's quantizer, as text; None when it was not logged."""
    value = run.get(f"{_OPTIONS}{name}")
    return value if isinstance(value, str) and value else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a name, such as that of a range
        return text
