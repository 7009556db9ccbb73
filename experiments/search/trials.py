"""Search for the quantizer of a study at a fixed budget of bits: Optuna's choices beside random ones.

Both samplers get the same training steps. Trials are runs like any other: those that are finished, in
whatever study, are not trained again. Every choice depends on the sampler's seed, the trial's number and
the outcome of earlier batches alone, so that a search that is stopped goes on to the very same trials.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from codec import backbones
from experiments.common.json_digest import identity
from experiments.execution import study_runner as runner
from experiments.execution.executors.contract import Executor
from experiments.execution.jobs import ELSEWHERE, LOST, STOPPED, VALIDATION_LOSS, Outcome, Settings, Update
from experiments.search.arms import SAMPLERS, Arm, describe, given_up_at
from experiments.search.space import Candidate, SearchError, Space
from experiments.studies.runs import CorpusIdentity, Run, expand
from experiments.studies.sections import QuantizerChoice, Search
from experiments.studies.study import Study
from experiments.tracking import leases
from experiments.tracking.leases import Leases
from experiments.tracking.schema import (
    DIVERGED,
    FAILED,
    FINISHED,
    KIND_STUDY,
    PRUNED,
    RUNNING,
    Tag,
    provenance,
    rows,
    status_of,
)
from experiments.tracking.store import Store

if TYPE_CHECKING:
    import optuna
    from mlflow.entities import Run as MlflowRun

Execute = Callable[..., dict[str, Outcome]]
COLUMNS = (
    "sampler",
    "seed",
    "trial",
    "status",
    "label",
    "quantizer",
    "channels",
    "bits",
    "steps",
    "run_hash",
)


_GROWS = {"trials", "seeds", "families"}  # what decides no choice of an arm


@dataclass
class SearchOutcome:
    """A search as far as it came: one row a trial, see `COLUMNS`, then one column an objective."""

    trials: pd.DataFrame
    objectives: tuple[str, ...]
    store: Store
    parent_id: str
    stopped: bool


def search(
    study: Study,
    corpus: CorpusIdentity,
    *,
    uri: str,
    directory: Path,
    executor: Executor,
    device: str = "cpu",
    announce: Callable[[Sequence[Run], int], None],
    show: Callable[[Update], None],
    execute: Execute = runner.execute,
) -> SearchOutcome:
    """Search as the study's `search` section says, and as far as Ctrl-C lets it.

    announce: called before each round with the runs to do and the number of those that are there already.
    execute: does the runs of a round. Raises SearchError.
    """
    section = study.search or Search()
    space = Space(section.space, budget(study))
    under_way = _Search(study, section, space, corpus, uri, directory)
    with Leases(under_way.store, leases.seconds()).waiting(f"search-{under_way.identity}"):
        under_way.open()
        return under_way.go_on(executor, device, announce, show, execute)


def budget(study: Study) -> float:
    """Bits a frame of the search. Raises SearchError where the study has none."""
    if study.search is not None and study.search.bits is not None:
        return study.search.bits
    if study.bits is not None:
        return study.bits
    if study.bitrate is not None:
        return study.bitrate / backbones.get(study.backbone.name, study.backbone.options).frame_rate
    raise SearchError(f"{study.name} has no rate to search at; set search.bits, or bits of the study")


class _Search:
    def __init__(
        self, study: Study, section: Search, space: Space, corpus: CorpusIdentity, uri: str, directory: Path
    ) -> None:
        self.study, self.section, self.space, self.corpus = study, section, space, corpus
        self.uri, self.directory = uri, directory
        self.store = Store(uri, study.name, study.question)
        self.parent_id = ""

    def open(self) -> None:
        """Open the parent run."""
        self.parent_id = self.store.start(
            f"{self.study.name} search",
            {Tag.STATUS: RUNNING, **provenance()},
            match={"kind": KIND_STUDY, "study_hash": self.identity},
        )
        fixed = self.section.model_dump(mode="json", exclude=_GROWS)
        self.store.log_params(self.parent_id, {"search": fixed, "bits": self.space.bits})

    @cached_property
    def identity(self) -> str:
        """Identity of all that decides the choices, but for the number of trials, which may grow."""
        (example,) = self._runs([Candidate("none", {}, "", 0, 0.0)])
        decides = {
            "training": example.training_identity,
            "search": self.section.model_dump(mode="json", exclude=_GROWS),
            "bits": self.space.bits,
        }
        return identity(decides)

    @cached_property
    def arms(self) -> list[Arm]:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = self.directory / "search" / f"{self.identity}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(path)))
        steps = self.study.train.steps
        return [
            Arm(
                sampler,
                seed,
                self.section,
                steps,
                optuna.create_study(
                    storage=storage,
                    study_name=f"{self.study.name}/{sampler}/{seed}",
                    directions=["minimize"] * len(self.section.objectives),
                    load_if_exists=True,
                ),
            )
            for seed in self.section.seeds
            for sampler in SAMPLERS
        ]

    def go_on(
        self,
        executor: Executor,
        device: str,
        announce: Callable[[Sequence[Run], int], None],
        show: Callable[[Update], None],
        execute: Execute,
    ) -> SearchOutcome:
        stopped = False
        while not stopped:
            batches = [(arm, *arm.next_batch(self.space)) for arm in self.arms]
            if not any(trials for _, trials, _ in batches):
                break
            stopped = self._do_round(batches, executor, device, announce, show, execute)
        frame = self._frame()
        if stopped:
            self.store.pause(self.parent_id)
        else:
            self.store.set_status(self.parent_id, FINISHED)
        return SearchOutcome(frame, self.section.objectives, self.store, self.parent_id, stopped)

    def _do_round(
        self,
        batches: "list[tuple[Arm, list[tuple[optuna.Trial, Candidate]], dict[int, float]]]",
        executor: Executor,
        device: str,
        announce: Callable[[Sequence[Run], int], None],
        show: Callable[[Update], None],
        execute: Execute,
    ) -> bool:
        """Do one batch of every arm together. Whether it was stopped; then what has ended counts."""
        runs: dict[str, Run] = {}
        stop_above: dict[str, dict[int, float]] = {}
        placed = []
        for arm, trials, thresholds in batches:
            for (trial, candidate), run in zip(trials, self._runs([c for _, c in trials]), strict=True):
                describe(trial, candidate, run)
                placed.append((arm, trial, run, thresholds))
                if run.hash in runs and thresholds != stop_above[run.hash]:
                    stop_above[run.hash] = {}  # who wants it whole gets it
                else:
                    runs[run.hash], stop_above[run.hash] = run, thresholds
        known = self.store.current(list(runs))
        todo = [run for run in runs.values() if not self._settled(known.get(run.hash), stop_above[run.hash])]
        announce(todo, len(runs) - len(todo))
        settings = Settings(
            store_uri=self.uri,
            study=self.study.name,
            parent_id=self.parent_id,
            directory=self.directory,
            device=device,
            stop_above={run.hash: stop_above[run.hash] for run in todo},
        )
        outcomes = execute(todo, settings, executor, show=show) if todo else {}
        known = self.store.current(list(runs))
        stopped = False
        for arm, trial, run, thresholds in placed:
            outcome = outcomes.get(run.hash)
            if outcome and outcome.status in (STOPPED, LOST, ELSEWHERE):
                stopped = True
            elif outcome and outcome.blocked:
                raise SearchError(f"the warm start of every trial {outcome.status}: {outcome.reason}")
            else:
                self._tell(arm, trial, known[run.hash], thresholds)
        tried = {trial.user_attrs["run_hash"] for arm in self.arms for trial in arm.ended}
        ended = self.store.current(sorted(tried))
        labels = {key: run.data.tags[Tag.LABEL] for key, run in ended.items() if _status(run) == FINISHED}
        self.store.set_tags(self.parent_id, rows(labels))
        return stopped

    def _runs(self, candidates: Sequence[Candidate]) -> list[Run]:
        """The run of each candidate: the study with this one quantizer, and its first seed."""
        nothing: dict[str, Any] = {"bits": None, "bitrate": None, "references": (), "axes": ()}
        alone = {key: value for key, value in nothing.items() if key in Study.model_fields}
        runs = []
        for candidate in candidates:
            choice = QuantizerChoice(
                name=candidate.quantizer, label=candidate.label, options=candidate.options
            )
            one = self.study.model_copy(
                update={**alone, "quantizers": (choice,), "seeds": self.study.seeds[:1]}
            )
            runs += expand(one, self.corpus)
        return runs

    def _settled(self, run: "MlflowRun | None", thresholds: Mapping[int, float]) -> bool:
        """True if a trial of the run needs no training: it ended, or came far enough to be given up."""
        if run is None:
            return False
        if _status(run) in (FINISHED, FAILED, DIVERGED):
            return True
        history = self.store.history(run.info.run_id, VALIDATION_LOSS) if thresholds else {}
        return given_up_at(history, thresholds) is not None

    def _tell(
        self, arm: Arm, trial: "optuna.Trial", run: "MlflowRun", thresholds: Mapping[int, float]
    ) -> None:
        """Tell a sampler what came of its trial, as if the run had been trained for this trial alone."""
        import optuna

        history = self.store.history(run.info.run_id, VALIDATION_LOSS)
        end = given_up_at(history, thresholds)
        broken = _status(run) in (FAILED, DIVERGED)
        last = arm.steps if end is None else end
        if broken and end is None:
            last = max(self.store.history(run.info.run_id, "train/loss"), default=1)
        trial.set_user_attr("steps", last)
        trial.set_user_attr("validation", {str(s): v for s, v in history.items() if s <= last})
        if end is not None:
            trial.set_user_attr("status", PRUNED)
            arm.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif broken:
            trial.set_user_attr("status", _status(run))
            arm.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            trial.set_user_attr("status", FINISHED)
            arm.study.tell(trial, [self._objective(run, name) for name in self.section.objectives])

    def _objective(self, run: "MlflowRun", name: str) -> float:
        if name not in run.data.metrics:
            known = sorted(k for k in run.data.metrics if k.startswith(("validation/", "rate/", "cost/")))
            raise SearchError(
                f"search.objectives: a run does not log {name!r}; these may be minimised: {', '.join(known)}"
            )
        return float(run.data.metrics[name])

    def _frame(self) -> pd.DataFrame:
        rows = []
        for arm in self.arms:
            for trial in arm.ended:
                values = trial.values or [math.nan] * len(self.section.objectives)
                row = {"sampler": arm.sampler, "seed": arm.seed, "trial": trial.number}
                row |= {name: trial.user_attrs[name] for name in COLUMNS if name in trial.user_attrs}
                rows.append(row | dict(zip(self.section.objectives, values, strict=True)))
        return pd.DataFrame(rows, columns=[*COLUMNS, *self.section.objectives])


def _status(run: "MlflowRun") -> str:
    return status_of(run)[0]
