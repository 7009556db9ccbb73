"""Explain what is wrong with a study file: its name, the key, the value, and what to write instead."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from experiments.common.plain_words import plain_words
from experiments.studies.axes import model_in
from quantizers.suggestions import did_you_mean

MOST_PROBLEMS = 20  # told at once
_INTERNAL = ("axes", "as_given")  # fields that no study file has
# Words that say more in a study file than `plain_words`.
_WORDS = {
    "string_pattern_mismatch": "must begin with a letter or digit; letters, digits, . _ - may follow",
    "string_type": "must be a text; if it is one, put it in quotes",
    "tuple_type": "must be a list, such as [...]",
}


def explain(
    errors: Iterable[ErrorDetails], source: str, origins: Sequence[int], root: type[BaseModel]
) -> str:
    """Explain each problem that `root` has with the file `source` in a line of its own.

    origins: of each row of `quantizers`, the number of the entry in the file.
    """
    problems = _of_values(list(errors))
    lines = dict.fromkeys(_line(problem, source, origins, root) for problem in problems)
    told = list(lines)[:MOST_PROBLEMS]
    more = len(lines) - len(told)
    return "\n".join(told + ([f"{source}: {more} more problems"] if more else []))


def shown(value: Any) -> str:
    """A value as messages show it: in full only where it is short."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]}..."


def _of_values(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without what only follows: a list whose element is wrong is then too short, too."""
    places = [error["loc"] for error in errors]

    def follows(error: ErrorDetails) -> bool:
        inside = [place for place in places if place[: len(error["loc"])] == error["loc"] != place]
        return error["type"] == "too_short" and bool(inside)

    return [error for error in errors if not follows(error)]


def _line(problem: ErrorDetails, source: str, origins: Sequence[int], root: type[BaseModel]) -> str:
    location = problem["loc"]
    if len(location) > 1 and location[0] == "quantizers" and isinstance(number := location[1], int):
        location = ("quantizers", origins[number] if number < len(origins) else number, *location[2:])
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(root, location[:-1])
        hint = did_you_mean(str(location[-1]), known)
        return f"{source}: unknown key {shown(key)}; {hint}known here: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"{source}: the key {key!r} is missing; add it"
    message = _WORDS.get(problem["type"]) or plain_words(problem)
    given = "" if isinstance(problem["input"], dict | BaseModel) else f" (got {shown(problem['input'])})"
    return f"{source}: {key + ': ' if key else ''}{message}{given}"


def _fields_at(root: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Names of the fields of the model at a location in the study."""
    model = root
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = model_in(model.model_fields[part].annotation) or model
    return [name for name in model.model_fields if name not in _INTERNAL]
