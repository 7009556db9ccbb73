"""The order in which jobs are given to a pool: after their warm starts, around what other runners work on."""

import contextlib
import time
from collections.abc import Callable, Sequence

from experiments.execution.executors.contract import Pool
from experiments.execution.jobs import ELSEWHERE, LOST, STOPPED, Job, Outcome, Update
from experiments.tracking.leases import Leases
from experiments.tracking.schema import FINISHED
from experiments.tracking.store import TrackingError

LOOK_EVERY = 2.0  # seconds between looks at what others work on


def work(
    jobs: Sequence[Job], pool: Pool, leases: Leases, show: Callable[[Update], None]
) -> dict[str, Outcome]:
    """Do all `jobs` in `pool`; outcome by key. See `runner.execute`."""
    return _Schedule(jobs, pool, leases, show).work()


class _Schedule:
    def __init__(
        self, jobs: Sequence[Job], pool: Pool, leases: Leases, show: Callable[[Update], None]
    ) -> None:
        self.pool, self.leases, self.show = pool, leases, show
        self.waiting = list(jobs)  # for a warm start
        self.to_come = {job.key for job in jobs if job.warm_start}
        self.under_way: set[str] = set()
        self.elsewhere: dict[str, Job] = {}  # another runner works on them
        self.outcomes: dict[str, Outcome] = {}
        self.stopping = False
        self._next_look = 0.0

    def work(self) -> dict[str, Outcome]:
        self._submit_ready()
        while self.under_way or self.elsewhere:
            try:
                for job, outcome in self.pool.wait(self.show):
                    self._take(job, outcome)
                self._submit_ready()
                if self.elsewhere and time.monotonic() > self._next_look:
                    self._look()
            except KeyboardInterrupt:
                if self.stopping:
                    raise  # a second Ctrl-C does not wait
                self._stop()
        return self.outcomes

    def _submit_ready(self) -> None:
        """Give the pool what waits for nothing any more."""
        still = []
        for job in self.waiting:
            start = self.outcomes.get(job.needs) if job.needs in self.to_come else None
            if job.needs in self.to_come and start is None:
                still.append(job)
            elif start is not None and start.status != FINISHED:
                reason = f"in the warm start: {start.reason}"
                self._end(job, start._replace(reason=reason, blocked=True, logged=False))
            else:
                self._submit(job)
        self.waiting = still

    def _submit(self, job: Job) -> None:
        self.under_way.add(job.key)
        self.pool.submit(job)

    def _take(self, job: Job, outcome: Outcome) -> None:
        self.under_way.discard(job.key)
        if outcome.status == ELSEWHERE and not self.stopping:
            if job.key not in self.elsewhere:
                self.show(Update(key=job.key, stage=f"{ELSEWHERE}: {outcome.reason} works on it"))
            self.elsewhere[job.key] = job
            self._next_look = time.monotonic() + LOOK_EVERY
        else:
            if outcome.status == LOST or not outcome.logged:  # nobody has said so yet
                self.show(Update(key=job.key, stage=f"failed: {outcome.reason}"))
            self._end(job, outcome)
            if outcome.store_lost and not self.stopping:
                self._stop("stopping, since no other run could be logged")

    def _look(self) -> None:
        """Take up again what the others have let go."""
        self._next_look = time.monotonic() + LOOK_EVERY
        with contextlib.suppress(TrackingError):  # the store is away, for the others as well
            held = self.leases.holders()
            for job in [job for job in self.elsewhere.values() if job.lease not in held]:
                del self.elsewhere[job.key]
                self._submit(job)

    def _stop(self, why: str = "stopping") -> None:
        self.stopping = True
        self.show(Update(key="", stage=f"{why}: saving the runs under way (Ctrl-C again: don't wait)"))
        self.pool.stop()
        for job in self.elsewhere.values():
            self._end(job, Outcome(ELSEWHERE))
        for job in self.waiting:
            self._end(job, Outcome(STOPPED))
        self.elsewhere, self.waiting = {}, []

    def _end(self, job: Job, outcome: Outcome) -> None:
        self.outcomes[job.key] = outcome
        self.show(Update(key=job.key, outcome=outcome.status))
