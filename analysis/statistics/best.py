"""The best of several systems by a quantity whose direction is known."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def best_first(values: Mapping[Key, float], higher_is_better: bool | None) -> list[Key]:
    """Keys of `values`, the best first; equal ones keep their order, NaN are left out.

    Empty where `higher_is_better` is None: then none is better than another.
    """
    if higher_is_better is None:
        return []
    sign = -1.0 if higher_is_better else 1.0
    return sorted((key for key in values if values[key] == values[key]), key=lambda key: sign * values[key])


def best_of(values: Mapping[str, float], higher_is_better: bool | None) -> str | None:
    """The key of the best value, the first of equal ones; None without values or without a direction."""
    return next(iter(best_first(values, higher_is_better)), None)
