"""Observers of a training that a job has: for the tracking store, for the runner, and for a search."""

from collections.abc import Mapping

from experiments.execution.context import Context
from experiments.execution.jobs import VALIDATION_LOSS
from experiments.tracking.journal import MetricsJournal
from experiments.tracking.mirrors.mirroring import Mirrors
from experiments.tracking.system_metrics import SystemMetrics
from experiments.training.observer import Observer


class JournalObserver(Observer):
    """Keeps metrics and warnings in a journal, with the machine's load beside them if `system` is given."""

    def __init__(self, journal: MetricsJournal, system: SystemMetrics | None) -> None:
        self._journal, self._system = journal, system

    def restored(self, step: int) -> None:
        self._journal.begin(step)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        sampled = self._system.sample() if self._system else {}
        self._journal.add(step, {**values, **sampled})

    def warning(self, step: int, name: str, text: str) -> None:
        self._journal.warn(step, name, text)

    def saving(self, step: int) -> None:
        self._journal.write()

    def should_stop(self) -> bool:
        return self._journal.error is not None and self._journal.error.gone


class MirrorObserver(Observer):
    """Shows metrics in other trackers, too."""

    def __init__(self, mirrors: Mirrors) -> None:
        self._mirrors = mirrors

    def restored(self, step: int) -> None:
        self._mirrors.begin(step)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._mirrors.metrics(step, values)


class RunnerObserver(Observer):
    """Tells the runner of progress and warnings, and stops where it or a lost lease asks for it."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def warning(self, step: int, name: str, text: str) -> None:
        self._context.warn(f"step {step}: {text}")

    def progress(self, step: int, steps: int, text: str) -> None:
        self._context.tell("training", step, steps, text)

    def should_stop(self) -> bool:
        return self._context.stopping()


class PruningObserver(Observer):
    """Stops a training whose validation loss is above a search's threshold.

    thresholds: by step. reason: why it is given up, empty until then.
    """

    def __init__(self, thresholds: Mapping[int, float]) -> None:
        self._thresholds = thresholds
        self.reason = ""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        loss, most = values.get(VALIDATION_LOSS), self._thresholds.get(step)
        if loss is not None and most is not None and not loss <= most:
            self.reason = f"validation loss {loss:.4g} at step {step} is above {most:.4g}"

    def should_stop(self) -> bool:
        return bool(self.reason)
