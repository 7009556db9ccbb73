"""Describe the keys of a study file as a table, from the models that check them."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from experiments.studies.axes import model_in

INTERNAL = ("axes", "as_given")  # fields that no study file has


def key_table(model: type[BaseModel]) -> str:
    """A Markdown table of the keys of `model`: default, bounds, description."""
    lines = ["| key | default | bounds | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if name not in INTERNAL:
            about = (field.description or "").replace("|", "\\|")
            lines.append(f"| `{name}` | {_default(field)} | {_bounds(field)} | {about} |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "`null`"
    if isinstance(value, BaseModel):  # a section: what one word for it is, if one says it all
        name = getattr(value, "name", None) or getattr(value, "corpus", None)
        return f"`{name}`" if name else ""
    if isinstance(value, str):
        return f"`{value}`" if value else ""
    if isinstance(value, dict):
        return ""
    return f"`{json.dumps(value)}`".replace('"', "")


def _bounds(field: FieldInfo) -> str:
    """Bounds of the values in words; of a list, those of each entry."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    if model_in(field.annotation) is not None:
        return ""
    limits = [*field.metadata, *_inner(field.annotation)]
    low: list[tuple[Any, str]] = [(one.ge, "") for one in limits if isinstance(one, Ge)]
    low += [(one.gt, "above ") for one in limits if isinstance(one, Gt)]
    high: list[tuple[Any, str]] = [(one.le, "to ") for one in limits if isinstance(one, Le)]
    high += [(one.lt, "below ") for one in limits if isinstance(one, Lt)]
    if low and high:
        (least, before), (most, word) = low[0], high[0]
        first = f"{before}{_number(least)}"
        if word == "to ":
            return f"{first} to {_number(most)}"
        return f"{'' if before else 'from '}{first}, below {_number(most)}"
    letters = next((one.max_length for one in limits if isinstance(one, MaxLen)), None)
    return f"at most {letters:,} characters" if letters and field.annotation is str else ""


def _inner(annotation: Any) -> Iterator[Any]:
    """Constraints within a type: of a value that may be null, of the entries of a tuple."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *constraints = get_args(annotation)
        for constraint in constraints:
            yield from constraint.metadata if isinstance(constraint, FieldInfo) else [constraint]
        yield from _inner(inner)
    elif origin in (Union, tuple) or str(origin) == "<class 'types.UnionType'>":
        for inner in get_args(annotation):
            if inner not in (type(None), Ellipsis):
                yield from _inner(inner)


def _number(value: Any) -> str:
    return "2^63 - 1" if value == 2**63 - 1 else f"{int(value):,}" if value == int(value) else f"{value:g}"
