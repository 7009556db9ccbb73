"""Read the YAML of study files: plain values within bounds, no key twice, no number that is not meant.

Written on the parser's events, since what a loader would build first (aliases of aliases, thousands of
nested lists, objects of tags) is what the bounds are for. Other than by PyYAML's rules (YAML 1.1), `1e-3` is
a number, `012` (base 8) and `1:30` (base 60) are refused, and dates are text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

MOST_BYTES = 1_000_000  # of a file
MOST_DEPTH = 50  # of lists and mappings in each other
MOST_VALUES = 50_000  # of a file, those that aliases repeat counted each time
MOST_CHARACTERS = 10_000  # of one text
MOST_INTEGER = 2**63 - 1

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"yes|Yes|YES|true|True|TRUE|on|On|ON")
_FALSE = re.compile(r"no|No|NO|false|False|FALSE|off|Off|OFF")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]*[01][01_]*|0x[0-9a-fA-F_]*[0-9a-fA-F][0-9a-fA-F_]*)")
_FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)"
)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class PlainYAMLError(ValueError):
    """A text is no YAML, or not of the plain and bounded kind; the message says where and what to do."""


def read(text: str) -> Any:
    """The value that `text` stands for; None for an empty one. Raises PlainYAMLError."""
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise PlainYAMLError(f"longer than {MOST_BYTES:,} bytes; shorten it")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise PlainYAMLError("contains bytes that are not UTF-8; save it as UTF-8")
    try:
        return _Document(yaml.parse(text, Loader=_PARSER)).value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise PlainYAMLError(f"not valid YAML: {place}{what}") from None
    except yaml.YAMLError as error:
        raise PlainYAMLError(f"not valid YAML: {' '.join(str(error).split())}") from None


class _Document:
    """The one document of a stream of events, as `value`."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._values = 0
        self._anchors: dict[str, tuple[Any, int] | None] = {}  # value and its size, None while it is read
        self.value: Any = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _refuse(event, (), "a second document begins; keep one")
                self.value = self._node(next(events), ())

    def _node(self, event: Any, path: tuple[str, ...]) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._repeated(event, path)
        before = self._values
        self._count(event, path, 1)
        if event.tag is not None:
            _refuse(event, path, f"the tag {event.tag.replace('tag:yaml.org,2002:', '!!')}; leave tags out")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event, path)
        else:
            if len(path) >= MOST_DEPTH:
                _refuse(event, path, f"nested deeper than {MOST_DEPTH}; nothing in a study is")
            value = (
                self._list(path) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(event, path)
            )
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._values - before
        return value

    def _repeated(self, event: Any, path: tuple[str, ...]) -> Any:
        if event.anchor not in self._anchors:
            _refuse(event, path, f"*{event.anchor} has no anchor &{event.anchor} before it; add it")
        known = self._anchors[event.anchor]
        if known is None:
            _refuse(event, path, f"*{event.anchor} stands within itself; write the value out")
        value, size = known
        self._count(event, path, size)
        return value

    def _count(self, event: Any, path: tuple[str, ...], number: int) -> None:
        self._values += number
        if self._values > MOST_VALUES:
            _refuse(event, path, f"more than {MOST_VALUES:,} values, those of aliases counted; shorten it")

    def _list(self, path: tuple[str, ...]) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._node(event, (*path, str(len(values)))))
        return values

    def _mapping(self, start: Any, path: tuple[str, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == "<<":
                for key, value in self._merged(next(self._events), path):
                    merged.setdefault(key, value)
                continue
            key = self._key(event, path)
            line = event.start_mark.line + 1
            if key in own:
                _refuse(event, path, f"the key {key!r} stands twice, first in line {lines[key]}; keep one")
            own[key], lines[key] = self._node(next(self._events), (*path, key)), line
        return {**merged, **own}

    def _key(self, event: Any, path: tuple[str, ...]) -> str:
        key = self._node(event, path)
        if isinstance(key, str):
            return key
        if not isinstance(event, yaml.ScalarEvent):
            _refuse(event, path, "a key is a name, not a list or a mapping")
        return _refuse(event, path, f"the key {event.value} is read as {_told(key)}; put it in quotes")

    def _merged(self, event: Any, path: tuple[str, ...]) -> list[tuple[str, Any]]:
        """Keys and values that `<<` takes from one mapping or several; the first goes before the others."""
        value = self._node(event, (*path, "<<"))
        mappings = value if isinstance(value, list) else [value]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            _refuse(event, path, "<< takes a mapping, or a list of them")
        return [pair for mapping in mappings for pair in mapping.items()]


def _scalar(event: Any, path: tuple[str, ...]) -> Any:
    text = event.value
    if len(text) > MOST_CHARACTERS:
        _refuse(event, path, f"a text of {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    if not event.implicit[0]:
        return _printable(event, path)
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text) or _FALSE.fullmatch(text):
        return bool(_TRUE.fullmatch(text))
    if _INTEGER.fullmatch(text) and text[-1] != "_":
        return _integer(event, path)
    if _FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        if not math.isfinite(value):
            _refuse(event, path, f"{_short(text)} is too large for a number; give a smaller one")
        return value
    if _NOT_FINITE.fullmatch(text):
        _refuse(event, path, f"{text} is no finite number; give one, or leave the key out")
    if _LEADING_ZERO.fullmatch(text):
        plain = text.lstrip("+-0_")
        plain = f"{'-' * (text[0] == '-')}{'0' * (plain[:1] in ('', '.', 'e', 'E'))}{plain}"
        why = f"begins with 0, which YAML reads as a number to base 8; write {_short(plain)}"
        _refuse(event, path, f"{_short(text)} {why}, or '{_short(text)}' in quotes for a text")
    if _BASE_60.fullmatch(text):
        why = f"is what YAML reads as a number to base 60; write {_short(str(_to_base_60(text)))}"
        _refuse(event, path, f"{_short(text)} {why}, or '{_short(text)}' in quotes for a text")
    return _printable(event, path)


def _integer(event: Any, path: tuple[str, ...]) -> int:
    digits = event.value.replace("_", "")
    if len(digits) <= 66:  # 64 of base 2
        value = int(digits, 0)
        if abs(value) <= MOST_INTEGER:
            return value
    return _refuse(event, path, f"{_short(digits)} is beyond {MOST_INTEGER}, the largest integer; lower it")


def _to_base_60(text: str) -> float:
    parts = text.lstrip("+-").replace("_", "").split(":")[:10]
    value = sum(float(part) * 60.0**power for power, part in enumerate(reversed(parts)))
    whole = int(value) if float(value).is_integer() else value
    return -whole if text[0] == "-" else whole


def _printable(event: Any, path: tuple[str, ...]) -> str:
    text: str = event.value
    wrong = [
        letter for letter in text if (letter < " " and letter not in "\t\n") or "\x7f" <= letter <= "\x9f"
    ]
    wrong += [letter for letter in text if "\ud800" <= letter <= "\udfff"]
    if wrong:
        _refuse(event, path, f"holds the control character U+{ord(wrong[0]):04X}; leave it out")
    return text


def _told(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else f"the number {value}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}... ({len(text):,} characters)"


def _refuse(event: Any, path: tuple[str, ...], why: str) -> NoReturn:
    key = ".".join(path)
    raise PlainYAMLError(f"line {event.start_mark.line + 1}: {_short(key) + ': ' if key else ''}{why}")
