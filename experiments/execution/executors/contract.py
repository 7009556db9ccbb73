"""The contract of an executor: a pool of workers that do jobs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from experiments.execution.jobs import Job, Outcome, Settings, Update


class ExecutorError(ValueError):
    """An executor cannot be used; the message says why and what to do."""


class Pool(Protocol):
    """Takes jobs in, in order, and does as many at once as there is room for."""

    def submit(self, job: "Job") -> None:
        """Add a job."""

    def wait(self, show: "Callable[[Update], None]") -> "list[tuple[Job, Outcome]]":
        """Jobs that ended since the last call, after at most a fraction of a second; updates go to `show`."""

    def stop(self) -> None:
        """Ask the jobs under way to save their state and end. Those that were not begun end as stopped.

        All still come out of `wait`.
        """


class Executor(Protocol):
    """A way to do jobs. Plain settings, so that it can be made from a command line."""

    def open(self, settings: "Settings") -> AbstractContextManager[Pool]:
        """A pool for the jobs of one study. Raises ExecutorError."""
