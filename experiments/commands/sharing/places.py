"""Places of shared models, as commands take them: `hf://OWNER/NAME` on a hub, or `folder:PATH`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

HUB, FOLDER = "hf://", "folder:"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")


class PlaceError(ValueError):
    """A place that cannot be; the message says how one is written."""


@dataclass(frozen=True)
class Repository:
    """A repository of a hub: `owner/name`."""

    owner: str
    name: str

    @property
    def identity(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    def __str__(self) -> str:
        return f"{HUB}{self.identity}"


def parse(text: str, name: str) -> Repository | Path:
    """The repository or the folder that `text` names. name: of the argument. Raises PlaceError."""
    if text.startswith(HUB):
        rest = text.removeprefix(HUB)
        if not _REPOSITORY.fullmatch(rest) or "--" in rest or ".." in rest:
            raise PlaceError(f"{name} {text}: a model of a hub is written {HUB}OWNER/NAME")
        return Repository(*rest.split("/"))
    if text.startswith(FOLDER) and text != FOLDER:
        return Path(text.removeprefix(FOLDER)).expanduser()
    raise PlaceError(f"{name} {text!r}: give {HUB}OWNER/NAME for a model of a hub, or {FOLDER}PATH")
