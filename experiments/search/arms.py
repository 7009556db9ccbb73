"""Arms of a search: one sampler with one seed, its trials, and when it gives one up."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from experiments.search.space import Candidate, Space
from experiments.studies.runs import Run
from experiments.studies.sections import Search

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "random")
STARTUP = 8  # trials of TPE that are random, the very ones that the random sampler of its seed begins with


@dataclass(frozen=True)
class Arm:
    """A sampler with a seed, and the trials that it has made."""

    sampler: str
    seed: int
    section: Search
    steps: int  # of a full training
    study: "optuna.Study"

    @property
    def ended(self) -> "list[optuna.trial.FrozenTrial]":
        return [trial for trial in self.study.trials if trial.state.is_finished()]

    def next_batch(self, space: Space) -> "tuple[list[tuple[optuna.Trial, Candidate]], dict[int, float]]":
        """The trials of the batch under way, or of a new one, and the thresholds for them.

        No trials when the steps are used up.
        """
        import optuna

        # Those that an earlier sitting asked for and did not end come back with the same choices.
        open_ = [trial for trial in self.study.trials if trial.state == optuna.trial.TrialState.RUNNING]
        first = int(open_[0].user_attrs.get("first", open_[0].number)) if open_ else len(self.study.trials)
        before = [trial for trial in self.ended if trial.number < first]
        batch = [
            (trial, self._choose(trial, space))
            for trial in (optuna.trial.Trial(self.study, frozen._trial_id) for frozen in open_)
        ]
        if len(before) == len(self.ended):  # nothing of this batch has been told yet: it may be incomplete
            spent = sum(int(trial.user_attrs["steps"]) for trial in before)
            left = math.ceil((self.section.trials * self.steps - spent) / self.steps)
            wanted = min(self.section.batch, left)
            for number in range(first + len(batch), first + wanted):
                self.study.sampler = self._sampler(number)
                trial = self.study.ask()
                trial.set_user_attr("first", first)
                batch.append((trial, self._choose(trial, space)))
        return batch, self._thresholds(before)

    def _choose(self, trial: "optuna.Trial", space: Space) -> Candidate:
        self.study.sampler = self._sampler(trial.number)
        return space.choose(trial)

    def _sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        import optuna

        seed = 100_003 * self.seed + number
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)

    def _thresholds(self, before: "list[optuna.trial.FrozenTrial]") -> dict[int, float]:
        """The validation loss at each step above which a new trial is given up (median stopping: Golovin et
        al. 2017, Google Vizier, section 3.2.2). The random sampler gives nothing up."""
        pruner = self.section.pruner
        if pruner is None or self.sampler == "random":
            return {}
        losses: dict[int, list[float]] = {}
        for trial in before:
            for step, loss in trial.user_attrs["validation"].items():
                losses.setdefault(int(step), []).append(loss)
        return {
            step: float(np.percentile(values, pruner.percentile))
            for step, values in losses.items()
            if len(values) >= pruner.after_trials and pruner.from_step <= step < self.steps
        }


def given_up_at(history: Mapping[int, float], thresholds: Mapping[int, float]) -> int | None:
    """The first step at which a validation loss is above its threshold, None where none is."""
    above = [step for step, loss in history.items() if step in thresholds and not loss <= thresholds[step]]
    return min(above, default=None)


def describe(trial: "optuna.Trial", candidate: Candidate, run: Run) -> None:
    """Keep with a trial what it stands for."""
    values = dataclasses.asdict(candidate) | {"run_hash": run.hash}
    for name in ("label", "quantizer", "channels", "bits", "run_hash"):
        trial.set_user_attr(name, values[name])
