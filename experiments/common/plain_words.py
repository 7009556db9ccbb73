"""Plain words: `must be at least 0` for pydantic's `Input should be greater than ...`; `1 run`, `7 runs`."""

import re
from typing import Any

from pydantic_core import ErrorDetails

# Words for each kind of error; {name} is a value of its context.
WORDS = {
    "bool_type": "must be true or false",
    "dict_type": "must be keys with values",
    "extra_forbidden": "is not a known key",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of at most 64 bits",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_type": "must be keys with values",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be a text",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
    "tuple_type": "must be a list",
}
_ONE = {"entries": "one entry", "characters": "one character"}


def plain_words(problem: ErrorDetails) -> str:
    """The words for one of the `errors()` of a ValidationError; messages of our own stay as they are."""
    words = WORDS.get(problem["type"])
    if words is None:
        return problem["msg"].removeprefix("Value error, ")
    text = words.format(**{name: _plain(value) for name, value in problem.get("ctx", {}).items()})
    return re.sub(r"\b1 (entries|characters)\b", lambda one: _ONE[one[1]], text)


def counted(number: int, thing: str, several: str = "") -> str:
    """The number and its noun, in the plural (`several`, default with an s) unless the number is one.

    >>> counted(1, "run"), counted(1200, "run"), counted(2, "study", "studies")
    ('1 run', '1,200 runs', '2 studies')
    """
    return f"{number:,} {thing if number == 1 else several or f'{thing}s'}"


def _plain(value: Any) -> str:
    """A bound as people write it: 1,000 and not 1000.0."""
    if isinstance(value, float):
        return f"{int(value):,}" if value.is_integer() else f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
