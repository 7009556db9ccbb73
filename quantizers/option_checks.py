"""QuantizerError, and checks of options that raise it with what to change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


class QuantizerError(ValueError):
    """A quantizer was asked for something that it cannot be; the message says what to change."""


class NonFiniteError(QuantizerError):
    """Features hold NaN or infinite values, as those of a model whose training diverged do."""


def check_open(name: str, options: Mapping[str, Any]) -> None:
    """Raise QuantizerError if `options` give `name`, which is to be chosen from bits."""
    if name in options:
        raise QuantizerError(f"{name} and bits both fix the rate; give one of them")


def check_spread(value: float) -> None:
    """Raise QuantizerError unless `value` is a factor on what a quantizer spans."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.1 <= value <= 10:
        raise QuantizerError(f"spread must be a number from 0.1 to 10, not {value!r}")


def check_count(name: str, value: object, minimum: int = 1) -> None:
    """Raise QuantizerError unless `value` is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise QuantizerError(f"{name} must be an integer of at least {minimum}, not {value!r}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise QuantizerError unless `value` is one of `choices`."""
    if value not in choices:
        raise QuantizerError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_weight(name: str, value: object, minimum: float = 0.0, maximum: float = math.inf) -> None:
    """Raise QuantizerError unless `value` is a number within [minimum, maximum]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
        raise QuantizerError(f"{name} must be a number from {minimum:g} to {maximum:g}, not {value!r}")
