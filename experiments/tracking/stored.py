"""Stored runs and studies, as reading gives them: with the attributes of MLflow's own classes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

DELETED = "deleted"
ANY = "%"
Value = tuple[str, str, int, float]  # of a metric: run, name, step, value


@dataclass(frozen=True)
class StoredExperiment:
    """One study."""

    experiment_id: str
    name: str
    lifecycle_stage: str
    artifact_location: str = ""


@dataclass(frozen=True)
class RunInfo:
    """What MLflow itself keeps of a run. Times are milliseconds since 1970."""

    run_id: str
    experiment_id: str
    run_name: str
    status: str
    start_time: int
    end_time: int | None
    artifact_uri: str


@dataclass(frozen=True)
class RunData:
    """What was logged: metrics with their last values."""

    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredRun:
    """One run, with the attributes of MLflow's own class."""

    info: RunInfo
    data: RunData


class Reader(Protocol):
    """What reading a study needs of a store. All of it raises TrackingError."""

    @property
    def uri(self) -> str:
        """Address of the store."""

    def experiments(self) -> list[StoredExperiment]:
        """Every study that is not deleted."""

    def experiment(self, name: str) -> StoredExperiment | None:
        """The study of that name, deleted or not."""

    def runs(
        self,
        experiment_ids: Sequence[str],
        tags: Mapping[str, Collection[str]] | None = None,
        *,
        metrics: Sequence[str] = (ANY,),
    ) -> list[StoredRun]:
        """Runs that are not deleted, the first started first.

        tags: for some tags, without `codecbench.`, the values of which a run must have one. metrics: patterns
        of SQL's LIKE for the names of those that are wanted; others may be left out.
        """

    def histories(self, run_ids: Sequence[str], names: Collection[str]) -> Iterator[Value]:
        """Run, metric, step and value of all that was logged under `names`, by run, name and step."""
