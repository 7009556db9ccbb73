"""Axes of a study file: a list where the key takes one value asks for each of its values.

Lists combine as a grid, or step by step where `zip` pairs them. A key that takes a list by nature (levels,
counts, strides, metrics) is an axis when its value is a list of lists.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from experiments.common.json_digest import identity
from quantizers.suggestions import did_you_mean

RATES = ("bits", "bitrate")  # of these, `none` knows nothing: it spends no bits
RATE_WEIGHT = "train.rate_weight"  # which decides the measured rate, and nothing for `none`
MOST_ROWS = 10_000  # of a study
MOST_LABEL = 200  # characters


class AxisError(ValueError):
    """Axes do not fit together; the message says what to change."""


class Axis(NamedTuple):
    """Keys that change together, and their values at each step."""

    keys: tuple[str, ...]
    steps: tuple[tuple[Any, ...], ...]


Values = Mapping[str, Any]  # of keys, at one place of the grid


def in_section(value: Any, model: type[BaseModel], key: str) -> Iterator[tuple[str, list[Any]]]:
    """Dotted keys below `key` that have lists where `model` takes one value, with the lists."""
    if isinstance(value, list):
        yield key, value
        return
    for name, below in value.items() if isinstance(value, dict) else ():
        if name in model.model_fields:
            annotation = model.model_fields[name].annotation
            if isinstance(below, dict) and (inner := model_in(annotation)) is not None:
                yield from in_section(below, inner, f"{key}.{name}")
            elif is_axis(below, annotation):
                yield f"{key}.{name}", below


def in_options(options: Any, config: type, key: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Keys of `options` that have lists where a field of the dataclass `config` takes one value."""
    types = get_type_hints(config)
    for name, value in options.items() if isinstance(options, dict) else ():
        if is_axis(value, types.get(name)):
            yield f"{key}{name}", value


def is_axis(value: Any, annotation: Any) -> bool:
    """True for a list of values where a key of that type takes one value."""
    if not isinstance(value, list) or annotation is Any:
        return False
    if takes_list(annotation):
        return bool(value) and all(isinstance(item, list) for item in value)
    return True


def takes_list(annotation: Any) -> bool:
    """True for the type of a key that takes a list by nature."""
    origin = get_origin(annotation) or annotation
    if origin in (Union, UnionType, Annotated):
        return any(takes_list(inner) for inner in get_args(annotation))
    if not isinstance(origin, type) or issubclass(origin, str | Mapping):
        return False
    return issubclass(origin, Collection)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field of this type holds, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, tuple, Annotated):
        for inner in get_args(annotation):
            if (model := model_in(inner)) is not None:
                return model
    return None


def combine(lists: Mapping[str, list[Any]], groups: Any) -> tuple[Axis, ...]:
    """The lists as axes, those that a group of `zip` names as one. Raises AxisError."""
    for key, values in lists.items():
        if not values:
            raise AxisError(f"{key}: the list is empty; give it values, or leave the key out")
    paired: dict[str, tuple[str, ...]] = {}
    for group in _groups(groups):
        for key in group:
            if key not in lists:
                known = ", ".join(lists) or "none"
                hint = did_you_mean(key, lists)
                raise AxisError(
                    f"zip: {shortened(key, 80)} has no list of values; {hint}keys that have one: {known}"
                )
            if key in paired:
                raise AxisError(f"zip: {key} is given twice; pair it once")
            paired[key] = group
        lengths = [f"{key} has {len(lists[key])}" for key in group]
        if len({len(lists[key]) for key in group}) > 1:
            raise AxisError(f"zip: lists must be of one length, but {' and '.join(lengths)}")
    groups_of_keys = dict.fromkeys(paired.get(key, (key,)) for key in lists)
    axes = tuple(
        Axis(keys, tuple(zip(*(lists[key] for key in keys), strict=True))) for keys in groups_of_keys
    )
    for axis in axes:
        if len(set(map(repr, axis.steps))) < len(axis.steps):
            raise AxisError(f"{' with '.join(axis.keys)}: a value is given twice in the list; remove one")
    return axes


def _groups(groups: Any) -> list[tuple[str, ...]]:
    if isinstance(groups, list) and all(isinstance(item, str) for item in groups):
        groups = [groups] if groups else []
    if not isinstance(groups, list) or not all(
        isinstance(group, list) and len(group) > 1 and all(isinstance(key, str) for key in group)
        for group in groups
    ):
        raise AxisError(
            f"zip: write lists of keys, such as [[bits, train.steps]], not {shortened(repr(groups), 80)}"
        )
    return [tuple(group) for group in groups]


def number_of_places(axes: Sequence[Axis]) -> int:
    """Number of places of the grid."""
    return math.prod(len(axis.steps) for axis in axes)


def check_rows(number: int) -> None:
    """Raise AxisError if a study would have more than `MOST_ROWS` rows."""
    if number > MOST_ROWS:
        raise AxisError(
            f"lists of values make {number:,} rows, more than {MOST_ROWS:,}; shorten a list, or pair lists "
            "by zip"
        )


def places(axes: Sequence[Axis]) -> Iterator[Values]:
    """Yield the value of each key at every place of the grid, the first axis slowest."""
    for combination in itertools.product(*(axis.steps for axis in axes)):
        yield {
            key: value
            for axis, step in zip(axes, combination, strict=True)
            for key, value in zip(axis.keys, step, strict=True)
        }


class RowName(NamedTuple):
    """The name of a row: its series, which the rows of one curve share, and the rate that follows it."""

    series: str
    rate: str = ""

    @property
    def label(self) -> str:
        """As tables show it: the rate last."""
        return self.series + self.rate


def row_name(base: str, axes: Sequence[Axis], place: Values, without: Collection[str] = ()) -> RowName:
    """The name of a row: `base`, key=value for what changes, and the rate ("fsq steps=600" and " 12 bit").

    Keys that are paired are told by the first of them, if it has another value at each step. without: keys
    that the row has no use for. A weight of the rate makes a series of its own, in which it is part of the
    rate, since it decides the measured one; a weight of 0 is not told.
    """
    names = _short([key for axis in axes for key in axis.keys])
    parts: list[str] = []
    rate = ""
    for axis in axes:
        keys = [key for key in axis.keys if key not in without]
        column = [step[axis.keys.index(keys[0])] for step in axis.steps] if keys else []
        told = keys[:1] if len(set(map(repr, column))) == len(column) else keys
        if RATE_WEIGHT in keys and RATE_WEIGHT not in told:
            told = [*told, RATE_WEIGHT]
        for key in told:
            if key in RATES:
                rate = f" {rate_text(key, place[key])}{rate}"
            elif key == RATE_WEIGHT:
                if place[key]:
                    parts.append(" entropy-constrained")
                    rate += f" rate_weight={text(place[key])}"
            else:
                parts.append(f" {names[key]}={text(place[key])}")
    return RowName(shortened(base + "".join(parts), MOST_LABEL - len(rate)), rate)


def shortened(name: str, most: int = MOST_LABEL) -> str:
    """`name`, or as much of it as there is room for and a hash that tells it from others."""
    return name if len(name) <= most else f"{name[: most - 18]}... {identity(name)[:14]}"


def rate_text(key: str, value: Any) -> str:
    """A rate as it ends a label."""
    if not isinstance(value, int | float):
        return text(value)
    return f"{value:g} bit" if key == "bits" else f"{value / 1000:g} kbit/s"


def text(value: Any) -> str:
    """A value of an axis in few characters."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        if len(value) == 1:
            return text(*value.values())
        plain = ("name", "corpus", "options")  # their values speak for themselves
        return ",".join(text(item) if key in plain else f"{key}={text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ",".join(text(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def _short(keys: Sequence[str]) -> dict[str, str]:
    """The shortest end of each dotted key that tells it from the others."""
    short = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
        others = [f".{other}" for other in keys if other != key]
        short[key] = next((end for end in ends if not any(o.endswith(f".{end}") for o in others)), key)
    return short
