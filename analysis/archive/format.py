"""Format of archives: what `codecbench export` writes, as a schema by which each byte of one is checked.

An archive may come from anybody. So sizes are compared before anything is unpacked, types, names and ranges
before anything is stored, and no member is ever unpacked to a path that it names itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from experiments.common.plain_words import plain_words
from experiments.tracking.schema import (
    KIND_RUN,
    KIND_STUDY,
    PARENT_TAG,
    STATUSES,
    TAG,
    Tag,
    contrasts_in,
    row_labels,
)

FORMAT = 2
READABLE = (1, 2)  # 1 has scores, counts and texts of each run as files of their own
EXTRAS = ("latents", "snapshots", "slices", "audio")  # large, or under the corpus's licence
LISTING, HISTORIES, ARTIFACTS = "archive.json", "histories.parquet", "artifacts"
SCORES, COUNTS, TEXTS = "scores.parquet", "counts.parquet", "texts.json"  # of all runs

MOST_RUNS = 100_000
LISTING_BYTES = 2**27
_LATEST = 253_402_300_799_000  # the last millisecond of the year 9999
_TEXT = 8000  # characters of a value; MLflow takes no more

_ID = re.compile(r"[0-9A-Za-z]{1,64}")
_STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_NAME = re.compile(r"[/\w.: -]{1,250}")  # of MLflow's parameters, metrics and tags
_HASH = re.compile(r"[^'\"`\x00-\x1f\x7f]{1,250}")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # would reach the terminal
_FLAGS = (Tag.REFERENCE, Tag.ADDED, Tag.SYNTHETIC, Tag.SUPERSEDED, Tag.GIT_DIRTY, Tag.IMPORTED)
_TOLD = (Tag.REASON, Tag.WARNING)  # of errors, so that they may have anything in them
_HASHES = (Tag.RUN_HASH, Tag.TRAINING_HASH, Tag.STUDY_HASH)

# Greatest values, by how a metric's name begins. They keep sums and counts finite.
_GREATEST = {"rate/": 1e12, "usage/": 1e15, "eval/": 1e12, "cost/": 1e15}
_COUNTS = re.compile(r"eval/.*_(asked|scored|failed)|usage/tokens")
_MOST_COUNTED = 1e11


class ArchiveError(ValueError):
    """An archive cannot be written or read; the message says why."""


def _short(text: str) -> str:
    if len(text) > _TEXT:
        raise ValueError(f"is longer than {_TEXT} characters")
    return text


def _plain(text: str) -> str:
    if match := _CONTROL.search(text):
        raise ValueError(f"has the control character {match[0]!r}")
    return text


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{text[:80]!r} is not {what}")
        return text

    return AfterValidator(check)


def _a_name(text: str) -> str:
    parts = text.split("/")
    if not _NAME.fullmatch(text) or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{text[:80]!r} is not a name that MLflow takes")
    return text


Name = Annotated[str, AfterValidator(_a_name)]
Text = Annotated[str, AfterValidator(_short), AfterValidator(_plain)]
Time = Annotated[int, Field(ge=0, le=_LATEST)]


class Entry(BaseModel):
    """One run as it was logged. Times are milliseconds since 1970."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: Annotated[str, _matching(_ID, "the id of a run")]
    study: Annotated[str, _matching(_STUDY, "the name of a study")]
    name: Annotated[Text, Field(min_length=1, max_length=1000)]
    status: Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
    start_time: Time
    end_time: Time | None
    tags: Annotated[dict[Name, Annotated[str, AfterValidator(_short)]], Field(max_length=10_000)]
    params: Annotated[dict[Name, Text], Field(max_length=10_000)]
    metrics: Annotated[dict[Name, float], Field(max_length=20_000)] = {}

    @model_validator(mode="after")
    def _means_something(self) -> Entry:
        for key, value in self.tags.items():
            if problem := _problem_of_tag(key, value):
                raise ValueError(f"tags.{key}: {problem}")
        if self.tags.get(Tag.KIND) not in (KIND_RUN, KIND_STUDY):
            raise ValueError(f"tags.{Tag.KIND} is neither {KIND_RUN!r} nor {KIND_STUDY!r}")
        for key, number in self.metrics.items():
            if problem := _problem_of_metric(key, number):
                raise ValueError(f"metrics.{key}: {problem}")
        return self

    @property
    def finished(self) -> bool:
        """Whether it is a run, not a study, and finished."""
        return self.tags[Tag.KIND] == KIND_RUN and self.tags.get(Tag.STATUS) == "finished"


class Listing(BaseModel):
    """All of `archive.json`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: Literal[1, 2]
    codecbench: Text
    runs: Annotated[list[Entry], Field(max_length=MOST_RUNS)]

    @model_validator(mode="after")
    def _each_once(self) -> Listing:
        seen: set[str] = set()
        for entry in self.runs:
            if entry.id in seen:
                raise ValueError(f"runs: {entry.id} is there twice")
            seen.add(entry.id)
        return self


class _Head(BaseModel):
    format: int
    codecbench: str = "of an unknown version"


def parse(content: bytes, where: str) -> Listing:
    """The listing in the bytes of `archive.json`. where: the archive, for messages. Raises ArchiveError."""
    try:
        head = _Head.model_validate_json(content, strict=True)
        if head.format not in READABLE:
            raise ArchiveError(
                f"{where} has format {head.format}, written by codecbench {head.codecbench[:40]}; this "
                f"codecbench reads formats {' and '.join(map(str, READABLE))}. Install that version"
            )
        return Listing.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = (
            "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
            .strip(".")
            .removesuffix(".[key]")
        )
        why = plain_words(first)
        raise ArchiveError(not_ours(where, LISTING, f"{key}: {why}" if key else why)) from None


def not_ours(where: str, member: str, why: str) -> str:
    """What to tell of an archive with something in it that `export` does not write."""
    what = " ".join(_CONTROL.sub("?", f"{member[:200]}: {why[:300]}").split())
    return (
        f"{where} is not of `codecbench export`, or damaged: {what}. Remedy: get the file again, or "
        "have it exported again"
    )


def _problem_of_tag(key: str, value: str) -> str:
    """What is wrong with a tag; empty where nothing is."""
    if key != PARENT_TAG and not key.startswith(TAG):
        return "is not a tag of codecbench"
    if not key.startswith(_TOLD) and (match := _CONTROL.search(value)):
        return f"has the control character {match[0]!r}"
    if key in _FLAGS and value not in ("true", "false", ""):
        return f"{value[:40]!r} is neither true nor false"
    if key == Tag.STATUS and value not in (*STATUSES, ""):
        return f"{value[:40]!r} is not one of {', '.join(STATUSES)}"
    if key == Tag.SEED and value and not _WHOLE.fullmatch(value):
        return f"{value[:40]!r} is no whole number"
    if key in _HASHES and not _HASH.fullmatch(value):
        return f"{value[:40]!r} is no hash"
    if key == PARENT_TAG and not _ID.fullmatch(value):
        return f"{value[:40]!r} is not the id of a run"
    if key.startswith(Tag.ROWS):
        return _problem_of_rows(value)
    if key.startswith(Tag.CONTRASTS):
        texts = [text for one in contrasts_in(value) for text in one.values() if isinstance(text, str)]
        return "a contrast has a control character" if any(map(_CONTROL.search, texts)) else ""
    return ""


def _problem_of_rows(value: str) -> str:
    try:
        labels = row_labels(value)
    except ValueError as error:
        return str(error)
    for key, label in labels.items():
        if not _HASH.fullmatch(key):
            return f"{key[:40]!r} is no hash"
        if _CONTROL.search(label):
            return "a label has a control character"
    return ""


def _problem_of_metric(key: str, value: float) -> str:
    if _COUNTS.fullmatch(key) and not (value >= 0 and value <= _MOST_COUNTED and value == int(value)):
        return f"{value} is no count"
    if key == "rate/bits_per_frame" and not 0 <= value <= 1000:
        return f"{value} is no number of bits"
    for begin, greatest in _GREATEST.items():
        if key.startswith(begin) and abs(value) > greatest:
            return f"{value} is beyond {greatest:g}"
    return ""


def readable(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags with spaces for the control characters that reasons and warnings may have."""
    return {k: _CONTROL.sub(" ", text) if k.startswith(_TOLD) else text for k, text in tags.items()}
