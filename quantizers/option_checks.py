"""QuantizerError, and checks of options that raise it with what to change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_origin

# The largest value of an option, by its name, and of each entry of a list. More is a slip of the pen: it
# would hang, or take all memory, before anything is trained.
LIMITS: Mapping[str, int] = {
    "bits": 1024,  # a frame
    "channels": 512,
    "stages": 256,
    "heads": 256,
    "groups": 256,
    "blocks": 512,
    "codebook_size": 2**20,
    "codebook_dim": 4096,
    "levels": 2**24,  # beyond it, float32 skips integers
    "counts": 2**24,
    "strides": 4096,
    "kmeans_iterations": 1000,
    "group_bits": 16,  # whose joint probabilities are held at once
}
MOST_ENTRIES = 512  # of a list: channels
MOST_STREAMS = 512  # token streams that options multiply to
MOST_VALUES = 2**28  # of all codebooks of a quantizer, 1 GiB in float32
MOST_WEIGHT = 1e9


class QuantizerError(ValueError):
    """A quantizer cannot be built or used as requested; the message says what to change."""


class NonFiniteError(QuantizerError):
    """Features are NaN or infinite, as after a training that diverged."""


def check_limits(options: Mapping[str, Any]) -> None:
    """Raise QuantizerError if an option is beyond its `LIMITS`, a list has more than `MOST_ENTRIES`, or
    stages, groups and heads make more than `MOST_STREAMS`."""
    for name, value in options.items():
        several = isinstance(value, list | tuple)
        if several and len(value) > MOST_ENTRIES:
            raise QuantizerError(f"{name} has {len(value):,} entries; give at most {MOST_ENTRIES}")
        for each in value if several else [value]:
            if name in LIMITS and isinstance(each, int | float) and each > LIMITS[name]:
                what = f"each of {name}" if several else name
                raise QuantizerError(f"{what} must be at most {LIMITS[name]:,}, not {each:,}")
    factors = {name: options.get(name) for name in ("stages", "groups", "heads")}
    streams = {name: value for name, value in factors.items() if isinstance(value, int)}
    if (product := math.prod(streams.values())) > MOST_STREAMS:
        raise QuantizerError(
            f"{' x '.join(streams)} make {product:,} token streams; at most {MOST_STREAMS} are possible"
        )


def check_memory(options: Mapping[str, Any], dim: int) -> None:
    """Raise QuantizerError if codebooks for features of `dim` channels hold more than `MOST_VALUES`."""
    size, width = options.get("codebook_size"), options.get("codebook_dim")
    if not isinstance(size, int):
        return
    books = options.get("stages", len(options.get("strides", (1,)))) * (
        options.get("heads", 1) if width else 1
    )
    values = size * books * (width or dim)
    if values > MOST_VALUES:
        raise QuantizerError(
            f"codebooks of {values:,} values in total are too large, at most {MOST_VALUES:,} are possible; "
            "lower codebook_size, use more stages of fewer codes each, or give codebook_dim"
        )


def check_kind(name: str, value: object, hint: object) -> None:
    """Raise QuantizerError unless `value` is a list of integers, or true or false, where `hint`, the type of
    the option, asks for one."""
    if hint is bool and not isinstance(value, bool):
        raise QuantizerError(f"{name} must be true or false, not {value!r}")
    if get_origin(hint) is not tuple:
        return
    if not isinstance(value, list | tuple) or any(isinstance(each, list | tuple | dict) for each in value):
        raise QuantizerError(f"{name} must be a list of integers, such as [7, 7], not {value!r}")


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


def check_weight(name: str, value: object, minimum: float = 0.0, maximum: float = MOST_WEIGHT) -> None:
    """Raise QuantizerError unless `value` is a number within [minimum, maximum]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
        raise QuantizerError(f"{name} must be a number from {minimum:g} to {maximum:g}, not {value!r}")
