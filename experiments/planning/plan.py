"""Plans of studies: what is finished, what is left, and how long it takes. Trains nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codec import weights
from experiments.common.machine import device_name
from experiments.common.run_folder import is_trained
from experiments.planning import costs
from experiments.planning.costs import Costs
from experiments.planning.device_speeds import DeviceSpeed
from experiments.planning.outline import Outline, PlannedRun
from experiments.planning.outline_cache import outline
from experiments.tracking import run_index
from experiments.tracking.run_index import KnownRun
from experiments.tracking.schema import DIVERGED, FAILED, FINISHED

TO_DO = "to do"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds of one worker for what is to do; `missing` says why a part is None, `source` in words where
    those of trainings come from."""

    warm_starts: int
    training: float | None
    evaluation: float | None
    missing: tuple[str, ...] = ()
    source: str = ""

    @property
    def seconds(self) -> float | None:
        """All of it, or None where a part is not known."""
        if self.training is None or self.evaluation is None:
            return None
        return self.training + self.evaluation


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An outline, the state of each run in the tracking store, and the work that is left."""

    outline: Outline
    store: str
    states: dict[str, tuple[str, str]]  # by run hash: status, reason
    estimate: Estimate
    on_other_corpora: dict[str, int]  # by corpus: runs of a study of this name that finished on it
    missing_weights: dict[str, str]  # by name: why they cannot be read, and what to do

    def state(self, run: PlannedRun) -> str:
        """The status of a run in the store, or `to do`."""
        return _state(self.states, run)

    def left(self, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        """Runs that the next `codecbench run` does: failed and diverged ones wait for --retry."""
        return _left(self.states, runs)

    def trainings(self, runs: Sequence[PlannedRun]) -> int:
        """Number of trainings of `runs`: several rows may be evaluated from one training."""
        return len({run.training_hash for run in runs})


def make(
    name: str,
    overrides: Sequence[str],
    store: str,
    runs_directory: Path,
    speed: DeviceSpeed | None = None,
) -> Plan:
    """The plan of a study. speed: of the device that is to train; without it, the hours are those of this
    machine. Raises StudyError, DataError, TrackingError."""
    outlined = outline(name, overrides)
    known = run_index.read(store)
    hashes = {run.hash for run in (*outlined.runs, *outlined.references)}
    states: dict[str, tuple[str, str]] = {}
    for run in known:
        put_aside = run.tags.get("superseded") == "true"  # by run --force
        if run.hash in hashes and not put_aside and states.get(run.hash, ("", ""))[0] != FINISHED:
            states[run.hash] = (run.status, run.tags.get("reason", ""))
    stated = None
    if speed is not None:
        from experiments.planning import stated_speed

        stated = speed.device, stated_speed.seconds_of_steps(name, overrides, speed)
    estimate = _estimate(outlined, _left(states, outlined.runs), known, runs_directory, stated)
    return Plan(
        outline=outlined,
        store=store,
        states=states,
        estimate=estimate,
        on_other_corpora=_on_other_corpora(outlined, known),
        missing_weights={name: text for name in outlined.weights if (text := weights.absence(name))},
    )


def _state(states: Mapping[str, tuple[str, str]], run: PlannedRun) -> str:
    return states.get(run.hash, (TO_DO, ""))[0]


def _left(states: Mapping[str, tuple[str, str]], runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    return [run for run in runs if _state(states, run) not in (FINISHED, FAILED, DIVERGED)]


def _on_other_corpora(outlined: Outline, known: Sequence[KnownRun]) -> dict[str, int]:
    """Finished runs of a study of this name by corpus, where that is none of this plan's; those that are
    scored on another corpus than they were trained on are left out."""
    planned = {name for corpus in outlined.corpora for name in (corpus.spec, corpus.content_hash) if name}
    counts: dict[str, int] = {}
    for run in known:
        tags = run.tags
        other = not {tags.get("corpus"), tags.get("corpus_hash")} & planned
        own = run.study == outlined.study and run.status == FINISHED and tags.get("reference") != "true"
        elsewhere = "data.test.content_hash" in run.params
        if own and other and not elsewhere and tags.get("superseded") != "true":
            counts[tags.get("corpus", "")] = counts.get(tags.get("corpus", ""), 0) + 1
    return counts


def _estimate(
    outlined: Outline,
    todo: Sequence[PlannedRun],
    known: Sequence[KnownRun],
    runs_directory: Path,
    stated: tuple[str, Mapping[str, float]] | None,
) -> Estimate:
    """stated: a device that is not this one, and the seconds of a step there by run."""
    device = device_name()
    timed = Costs([*known, *costs.measured()], device)
    starts = {
        run.warm_start: run
        for run in todo
        if run.warm_start and not is_trained(runs_directory / run.warm_start)
    }
    # Rows of one training (fewer of its stages, earlier budgets) are evaluated one by one, and trained once.
    untrained = {run.training_hash: run for run in todo if not is_trained(runs_directory / run.training_hash)}
    steps = [(run, run.steps) for run in untrained.values()]
    steps += [(run, run.warm_start_steps) for run in starts.values()]
    training: list[float | None]
    if stated is None:
        source = f"steps that were timed on this device ({device})"
        training = [timed.training(run.config, number) for run, number in steps]
    else:
        source = f"counted operations of a step and the stated speed of {stated[0]}, not from timed steps"
        training = [number * stated[1][run.hash] for run, number in steps]
    evaluation = [
        timed.evaluation(run.config, outlined.corpora[run.corpus].test_clips, run.scorings) for run in todo
    ]
    missing = []
    if None in training:
        missing.append(f"no run with this backbone, batch and objective was timed on this device ({device})")
    if None in evaluation:
        missing.append("no evaluation with these metrics was timed")
    return Estimate(
        warm_starts=len(starts),
        training=None if None in training else sum(filter(None, training)),
        evaluation=None if None in evaluation else sum(filter(None, evaluation)),
        missing=tuple(missing),
        source=source,
    )
