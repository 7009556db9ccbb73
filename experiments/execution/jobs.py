"""Jobs: plain data that the runner and its workers exchange."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from experiments.studies.runs import Run
from experiments.tracking import leases
from experiments.tracking.schema import KIND_RUN, KIND_WARM_START

if TYPE_CHECKING:
    from experiments.studies.reference_runs import ReferenceRun


VALIDATION_LOSS = "validation/loss"

# Outcomes of a job that is not at its end; others are the statuses of `tracking`.
STOPPED = "stopped"  # goes on later
LOST = "lost"  # its process was killed
ELSEWHERE = "elsewhere"  # another runner works on it

REASON_LENGTH = 500  # characters of an outcome's reason in the tracking store


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the work on runs: where and how; nothing here decides a result.

    device: as torch names it, or auto. cores: for each process, beside its training thread: streams are
    decoded in so many threads, and a run on a GPU is scored in so many processes. lease_seconds: see
    `leases`. stop_above: by run hash, the validation loss at each step above which a search gives the run up.
    """

    store_uri: str
    study: str
    parent_id: str
    directory: Path
    device: str = "cpu"
    cores: int = 1
    lease_seconds: float = field(default_factory=leases.seconds)
    stop_above: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to do; `warm_start` only trains the weights that other runs start from."""

    run: "Run | ReferenceRun"
    warm_start: bool = False

    @property
    def key(self) -> str:
        """The identity of what is to be done."""
        return self.run.training_hash if self.warm_start and isinstance(self.run, Run) else self.run.hash

    @property
    def lease(self) -> str:
        """Key of the lease: runs of one training share its folder, so one process at a time works on them."""
        return self.run.training_hash if isinstance(self.run, Run) else self.run.hash

    @property
    def needs(self) -> str | None:
        """Key of the warm start that has to be done before."""
        start = None if self.warm_start else self.run.warm_start()
        return start.training_hash if start else None

    @property
    def kind(self) -> str:
        """Kind of its run in the tracking store."""
        return KIND_WARM_START if self.warm_start else KIND_RUN


class Outcome(NamedTuple):
    """The outcome of a job: a status of `tracking`, or `stopped`, `lost`, `elsewhere`; and why, unless it
    finished. reused: another runner did it. blocked: its warm start ended so, and it was not started.
    logged: whether the tracking store has it; if not, it is the runner's to log. store_lost: the store is
    away for good, so that no other job would come further."""

    status: str
    reason: str = ""
    reused: bool = False
    blocked: bool = False
    logged: bool = True
    store_lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Update:
    """An update from a worker: a stage's progress, or the outcome of a job."""

    key: str
    stage: str = ""
    done: int = 0
    total: int = 0
    text: str = ""
    outcome: str = ""


class Link(Protocol):
    """The link from a worker to the runner that gave it a job."""

    def tell(self, update: Update) -> None:
        """Send an update."""

    def stopping(self) -> bool:
        """Ask whether the work is to be saved and stopped."""
