"""Options of a quantizer as its run logged them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import quantizers

if TYPE_CHECKING:
    from quantizers import Quantizer

_DIM = 8  # of the features that a quantizer is built for; its cells and channels do not depend on them
_OPTIONS = "param/quantizer.options."  # of logged parameters


def logged_options(run: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the quantizer of one row of `Results.runs`, by name; empty where none were logged."""
    return {
        str(name).removeprefix(_OPTIONS): _parsed(value)
        for name, value in run.items()
        if str(name).startswith(_OPTIONS) and isinstance(value, str) and value
    }


def built(run: Mapping[str, Any]) -> Quantizer | None:
    """The quantizer of one row of `Results.runs`, untrained and for features of another size; None for a
    plug-in, or where this version does not know its options."""
    try:
        return quantizers.create(str(run["quantizer"]), dim=_DIM, **logged_options(run))
    except quantizers.QuantizerError:
        return None


def parameter(run: Mapping[str, Any], name: str) -> str | None:
    """A logged option of the run's quantizer, as text; None when it was not logged."""
    value = run.get(f"{_OPTIONS}{name}")
    return value if isinstance(value, str) and value else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a name, such as that of a range
        return text
