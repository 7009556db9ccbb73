"""Time left of runs and of a study, from how fast their stages went so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from experiments.common.plain_words import counted

TRAINING = "training"  # the stage that can begin in its middle, where an earlier sitting stopped
FINISHED = "finished"


@dataclass
class Stage:
    """One stage of a run: its first and its newest update. started, seen: seconds of the clock."""

    name: str
    started: float
    seen: float
    first: int
    done: int
    total: int

    def left(self, now: float) -> float | None:
        """Seconds until its end, or None where nothing tells."""
        elapsed, steps = self.seen - self.started, self.done - self.first
        if not self.total or steps <= 0 or elapsed <= 0:
            return None
        return max((self.total - self.done) * elapsed / steps - (now - self.seen), 0.0)

    def whole(self, ended: float) -> float:
        """Seconds that the stage would take from its beginning, whatever an earlier sitting did of it."""
        seconds = ended - self.started
        before = self.first - 1 if self.name == TRAINING else 0
        steps = self.done - before
        return seconds * self.total / steps if before > 0 and steps > 0 and self.total else seconds


@dataclass
class RunClock:
    """The stages of one run so far."""

    stages: list[Stage] = field(default_factory=list)

    def update(self, name: str, done: int, total: int, now: float) -> bool:
        """Take an update; whether a new stage begins with it."""
        current = self.stages[-1] if self.stages else None
        if current is None or current.name != name:
            self.stages.append(Stage(name, now, now, done, done, total))
            return True
        current.seen, current.done, current.total = now, done, total or current.total
        return False

    def durations(self, ended: float) -> dict[str, float]:
        """Seconds of each stage, in order."""
        ends = [stage.started for stage in self.stages[1:]] + [ended]
        seconds: dict[str, float] = {}
        for stage, end in zip(self.stages, ends, strict=True):
            seconds[stage.name] = seconds.get(stage.name, 0.0) + stage.whole(end)
        return seconds


class StudyClock:
    """The runs of a study: those done, those under way, and how long the rest takes."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.total = self.done = 0
        self._runs: set[str] = set()  # warm starts are no runs
        self._clocks: dict[str, RunClock] = {}
        self._finished: list[dict[str, float]] = []
        self._at_once = 1

    def expect(self, keys: Sequence[str]) -> None:
        """More runs to do."""
        self._runs.update(keys)
        self.total += len(keys)

    def update(self, key: str, stage: str, done: int, total: int) -> bool:
        """Take an update of a run under way; whether a new stage begins with it."""
        begins = self._clocks.setdefault(key, RunClock()).update(stage, done, total, self._now())
        self._at_once = max(self._at_once, len(self._runs.intersection(self._clocks)))
        return begins

    def finish(self, key: str, outcome: str) -> None:
        """Take the outcome of a run."""
        clock = self._clocks.pop(key, None)
        if key not in self._runs:
            return
        self.done += 1
        if clock is not None and outcome == FINISHED:
            self._finished.append(clock.durations(self._now()))

    def run_left(self, key: str) -> float | None:
        """Seconds until the end of a run under way, or None where nothing tells: those of its stage, and of
        the stages that came after it in runs that finished."""
        clock = self._clocks.get(key)
        if clock is None or not clock.stages:
            return None
        stage = clock.stages[-1]
        left = stage.left(self._now())
        if key not in self._runs:  # a warm start ends with its training
            return left
        if left is None and (mean := self._mean(stage.name)) is not None:
            left = max(mean - (self._now() - stage.started), 0.0)
        return None if left is None else left + self._mean_after(stage.name)

    def text(self) -> str:
        """`3 of 7 runs, about 4 min left`; `at least` until a run has finished. Empty before any is known."""
        if not self.total:
            return ""
        so_far = f"{self.done} of {counted(self.total, 'run')}"
        seconds = self.study_left()
        if seconds is None:
            return so_far
        return f"{so_far}, {'about' if self._finished else 'at least'} {words(seconds)} left"

    def study_left(self) -> float | None:
        """Seconds until the last run ends, or None where nothing tells yet."""
        active = [key for key in self._clocks if key in self._runs]
        waiting = self.total - self.done - len(active)
        if waiting + len(active) <= 0:
            return None
        each = self._mean_run()
        if each is None:
            return None
        left = [seconds if (seconds := self.run_left(key)) is not None else each for key in active]
        starts = [self.run_left(key) or 0.0 for key in self._clocks if key not in self._runs]
        shared = (sum(left) + waiting * each) / self._at_once
        return max([shared, *left]) + max(starts, default=0.0)

    def _mean_run(self) -> float | None:
        """Seconds of a whole run: of those that finished, else of the trainings under way."""
        if self._finished:
            return sum(sum(stages.values()) for stages in self._finished) / len(self._finished)
        trainings = []
        for key, clock in self._clocks.items():
            stage = clock.stages[-1]
            left = stage.left(self._now())
            if key in self._runs and stage.name == TRAINING and left is not None:
                trainings.append(stage.whole(stage.seen) * stage.total / max(stage.done, 1))
        return sum(trainings) / len(trainings) if trainings else None

    def _mean(self, stage: str) -> float | None:
        seconds = [stages[stage] for stages in self._finished if stage in stages]
        return sum(seconds) / len(seconds) if seconds else None

    def _mean_after(self, stage: str) -> float:
        """Mean seconds of all that followed `stage` in runs that finished; 0 before one has."""
        after = [
            sum(list(stages.values())[list(stages).index(stage) + 1 :])
            for stages in self._finished
            if stage in stages
        ]
        return sum(after) / len(after) if after else 0.0


def words(seconds: float) -> str:
    """A length of time as people say it: `50 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"
