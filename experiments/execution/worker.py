"""The work of one process on one job, from its lease to its outcome in the tracking store."""

import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from experiments.execution import reference_job, training_job
from experiments.execution.context import Context
from experiments.execution.jobs import ELSEWHERE, REASON_LENGTH, STOPPED, Job, Link, Outcome, Settings, Update
from experiments.execution.outcomes import outcome_of
from experiments.execution.tracked_run import open_run
from experiments.studies.runs import Run
from experiments.tracking import artifacts
from experiments.tracking.leases import Leases
from experiments.tracking.models import weights as stored_weights
from experiments.tracking.schema import DIVERGED, FAILED, FINISHED
from experiments.tracking.store import Store, TrackingError
from experiments.training.observer import Interrupted

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def perform(
    job: Job,
    settings: Settings,
    link: Link,
    *,
    fabric: "Fabric | None" = None,
    begin: Callable[[], None] = lambda: None,
) -> Outcome:
    """Do `job` in this process, unless another runner works on it or has done it.

    It ends as `finished`, `failed`, `diverged`, `pruned`, `stopped`, or `elsewhere` when another runner has
    it. fabric, begin: as in `Context`.
    """
    try:
        link.tell(Update(key=job.key, stage="starting"))
        store = Store(settings.store_uri, settings.study, wait=True, give_up=link.stopping)
        leases = Leases(store, settings.lease_seconds)
        lease = leases.acquire(job.lease)
        if lease is None:
            return Outcome(ELSEWHERE, leases.holders().get(job.lease, ""))
        with lease:
            context = Context(
                job=job, settings=settings, link=link, store=store, lease=lease, fabric=fabric, begin=begin
            )
            return _outcome_before(context) or _carry_out(context)
    except TrackingError as error:  # the machine's trouble, not the run's
        link.tell(Update(key=job.key, stage=f"stopped: {error}"))
        return outcome_of(error)


def _outcome_before(context: Context) -> Outcome | None:
    """The outcome of the job where another runner, or an earlier sitting, has come to one.

    A warm start whose weights are gone everywhere is to be trained again, whatever its run says.
    """
    job = context.job
    status, reason = context.store.statuses([job.key], job.kind).get(job.key, ("", ""))
    if status not in (FINISHED, FAILED, DIVERGED):
        return None
    if job.warm_start and status == FINISHED:
        folder = context.settings.directory / job.key
        if not stored_weights.fetch(context.store, job.key, folder, context.warn):
            return None
    return Outcome(status, reason, reused=True)


def _carry_out(context: Context) -> Outcome:
    """Do the job, and put its outcome into the store."""
    job, run_id = context.job, ""
    try:
        run_id = open_run(context.store, job, context.settings.parent_id)
        if isinstance(job.run, Run):
            training_job.carry_out(job.run, context, run_id)
        else:
            reference_job.carry_out(job.run, context, run_id)
        if context.lease.lost:
            raise Interrupted("logging")
        context.store.set_status(run_id, FINISHED)
        return Outcome(FINISHED)
    except Exception as error:
        outcome = outcome_of(error, context.lease.lost)
        if not isinstance(error, Interrupted):
            context.tell(f"{outcome.status}: {outcome.reason}")
        if not run_id or context.lease.lost or isinstance(error, TrackingError):
            return outcome
        try:
            _record(context.store, run_id, outcome, error)
        except Exception:  # the store is away, for one: what the job ended by is the error to tell
            if outcome.status not in (FAILED, DIVERGED):
                return Outcome(STOPPED, outcome.reason)
            traceback.print_exception(error)
        return outcome


def _record(store: Store, run_id: str, outcome: Outcome, error: Exception) -> None:
    """Show in the store how a run ended. Raises TrackingError."""
    if outcome.status == STOPPED:
        store.patience = 0.0  # what stopped the run may have stopped the store, and this is for the eye alone
        store.pause(run_id)
        return
    if outcome.status in (FAILED, DIVERGED):
        with suppress(OSError), artifacts.logged(store, run_id) as folder:  # no room: the reason remains
            text = "".join(traceback.format_exception(error))
            (folder / artifacts.ERROR).write_text(text, encoding="utf-8")
    store.set_status(run_id, outcome.status, outcome.reason[:REASON_LENGTH])
