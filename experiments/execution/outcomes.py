"""Outcomes by error: one table for all kinds of jobs."""

from experiments.execution.jobs import ELSEWHERE, STOPPED, Outcome
from experiments.tracking.schema import DIVERGED, FAILED, PRUNED
from experiments.tracking.store import TrackingError
from experiments.training.checkpoint import CheckpointError
from experiments.training.observer import Diverged, Interrupted


class Pruned(Interrupted):
    """A search gave the training up; its state is saved."""


# The first class that an error belongs to decides.
_STATUSES: tuple[tuple[type[Exception], str], ...] = (
    (Pruned, PRUNED),
    (Interrupted, STOPPED),
    (TrackingError, STOPPED),  # the machine's trouble, not the run's
    (CheckpointError, STOPPED),
    (Diverged, DIVERGED),
    (Exception, FAILED),
)


def outcome_of(error: Exception, lease_lost: bool = False) -> Outcome:
    """The outcome of a job that ended by `error`. lease_lost: another runner works on it by now."""
    if lease_lost:
        return Outcome(ELSEWHERE, "taken over while this machine was cut off")
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    return Outcome(status, str(error))
