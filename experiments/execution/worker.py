"""One run from start to finish, in a process of its own: train, assess, log."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from experiments.execution import reference_job
from experiments.execution.jobs import ELSEWHERE, STOPPED, Job, Link, Outcome, Settings, Update
from experiments.execution.training_job import Worker
from experiments.studies.runs import Run
from experiments.tracking.leases import Leases
from experiments.tracking.schema import DIVERGED, FAILED, FINISHED
from experiments.tracking.store import Store, TrackingError

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

    fabric: the processes of its training, of which this is the first; None: this one alone. begin: called
    when the others are to take part.
    """
    try:
        link.tell(Update(key=job.key, stage="starting"))
        store = Store(settings.store_uri, settings.study, wait=True, give_up=link.stopping)
        known = Leases(store, settings.lease_seconds)
        lease = known.acquire(job.lease)
        if lease is None:
            return Outcome(ELSEWHERE, known.holders().get(job.lease, ""))
        with lease:
            status, reason = store.statuses([job.key], job.kind).get(job.key, ("", ""))
            if status in (FINISHED, FAILED, DIVERGED):  # another runner was first
                return Outcome(status, reason, reused=True)
            if isinstance(job.run, Run):
                work = Worker(job, job.run, settings, link, store, lease)
                work.fabric, work.begin = fabric, begin
                return work.perform()

            return reference_job.perform(job.run, settings, link, store, lease)
    except TrackingError as error:  # the machine's trouble, not the run's
        link.tell(Update(key=job.key, stage=f"stopped: {error}"))
        return Outcome(STOPPED, str(error))
