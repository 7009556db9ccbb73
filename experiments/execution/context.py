"""The context of a job: what it works with, the same for every kind of job."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.common.machine import default_workers
from experiments.execution.jobs import Job, Link, Settings, Update
from experiments.training.observer import Interrupted

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from experiments.tracking.leases import Lease
    from experiments.tracking.store import Store


def _nobody() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Context:
    """The job, settings of the study, the link to the runner, the tracking store, and the lease on the job.

    fabric: the processes of its training, of which this is the first; None: this one alone. begin: called
    when the others are to take part.
    """

    job: Job
    settings: Settings
    link: Link
    store: "Store"
    lease: "Lease"
    fabric: "Fabric | None" = None
    begin: Callable[[], None] = _nobody

    def tell(self, stage: str, done: int = 0, total: int = 0, text: str = "") -> None:
        """Send the runner an update of the job."""
        self.link.tell(Update(key=self.job.key, stage=stage, done=done, total=total, text=text))

    def warn(self, text: str) -> None:
        """Tell the runner of something that a person should look at."""
        self.tell(f"warning: {text}")

    def stopping(self) -> bool:
        """Ask whether to stop the job: the runner says so, or another runner has taken it over."""
        return self.link.stopping() or self.lease.lost

    @property
    def scorers(self) -> int:
        """Processes that score a run: on a CPU one, for training takes all cores; beside a GPU those that
        training leaves idle, as far as the free memory goes."""
        return 1 if self.settings.device == "cpu" else min(self.settings.cores, default_workers())

    def checking(self, stage: str) -> Callable[[int, int], None]:
        """A callback for the progress of a stage, which raises Interrupted where the job is to be stopped."""

        def check(done: int, total: int) -> None:
            if self.stopping():
                raise Interrupted(stage)
            self.tell(stage, done, total)

        return check
