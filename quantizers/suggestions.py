"""Suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """`did you mean 'NAME'? ` for the known name that is nearest to `given`; empty where none is near."""
    close = get_close_matches(str(given), list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""
