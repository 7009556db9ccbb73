"""Suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """`did you mean 'NAME'? ` for the known name that is nearest to `given`; empty where none is near."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(str(given).lower(), by_lower, n=1)
    return f"did you mean {by_lower[close[0]]!r}? " if close else ""
