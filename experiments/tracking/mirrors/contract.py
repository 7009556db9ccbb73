"""The contract of a mirror of metrics: one per run, in the process that trains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class MirrorError(ValueError):
    """A mirror cannot be used as asked; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class MirroredRun:
    """A run as a mirror shows it. identity: its MLflow id, the same when a training is resumed. config: in
    full."""

    study: str
    name: str
    identity: str
    config: Mapping[str, Any] = field(default_factory=dict)


class Mirror(Protocol):
    """An open run of another tracker. Every method may raise anything."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Show values of metrics, by name, at a step."""

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        """Show the final values of a run that was trained `step` steps."""

    def close(self, finished: bool) -> None:
        """Write what is left. finished: whether the run is; else it goes on later, or has failed."""


class Destination(Protocol):
    """A tracker that runs are mirrored to. Plain data, so that it can be sent to another process."""

    def check(self) -> None:
        """See that it can be used, before any work. Raises MirrorError."""

    def open(self, run: MirroredRun, step: int) -> Mirror:
        """Open a run after `step` finished steps; what an earlier sitting showed of later ones is void."""
