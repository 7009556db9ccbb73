"""One run of a study, in this process and those that torchrun started beside it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from experiments.common.machine import cores, share_of_cores
from experiments.common.run_folder import check_folder
from experiments.execution import study_runner as runner
from experiments.execution import worker
from experiments.execution.jobs import Job, Outcome, Settings, Update
from experiments.execution.outcomes import outcome_of
from experiments.studies import reference_runs
from experiments.studies.runs import Corpora, Run, expand
from experiments.studies.study import Study, StudyError
from experiments.tracking.schema import FINISHED
from experiments.training import distributed, trained_codec
from experiments.training.observer import Observer
from quantizers.suggestions import did_you_mean

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass
class Here:
    """A worker's link to this very process."""

    show: Callable[[Update], None]
    stop: Event

    def tell(self, update: Update) -> None:
        self.show(update)

    def stopping(self) -> bool:
        return self.stop.is_set()


def choose(study: Study, prepared: Corpora, label: str | None, seed: int | None) -> Run:
    """The run of a quantizer's label and a seed; each may be left out where there is only one.

    Raises StudyError.
    """
    runs = expand(study, prepared)
    labels = list(dict.fromkeys(run.label for run in runs))
    if label is None:
        if len(labels) > 1:
            raise StudyError(f"--quantizer: the study has {', '.join(labels)}; name one of them")
        label = labels[0]
    if label not in labels:
        hint = did_you_mean(label, labels)
        raise StudyError(f"--quantizer {label}: not in the study; {hint}it has {', '.join(labels)}")
    seeds = list(dict.fromkeys(run.seed for run in runs))
    if seed is None:
        if len(seeds) > 1:
            raise StudyError(f"--seed: the study has {', '.join(map(str, seeds))}; name one of them")
        seed = seeds[0]
    if seed not in seeds:
        raise StudyError(f"--seed {seed}: not in the study, which has {', '.join(map(str, seeds))}")
    return next(run for run in runs if (run.label, run.seed) == (label, seed))


def perform(
    study: Study,
    *,
    label: str | None,
    seed: int | None,
    uri: str,
    directory: Path,
    fabric: "Fabric",
    stop: Event,
    show: Callable[[Update], None],
    prepare: Callable[[str, int, int], None],
) -> Outcome:
    """Train, score and log a run, its warm start first; the same MLflow run as `codecbench run` makes.

    Each process calls this; only the first speaks to MLflow, scores, and calls `show` and `prepare`. Setting
    `stop` in any of them saves the state and ends all. A process that ends by an error waits for no other:
    its exit ends them, and torchrun what is left of them. Raises FolderError and StudyError.
    """
    check_folder(directory)
    runner.require_weights(study)
    prepared: Corpora = {}
    if fabric.is_global_zero:
        prepared = runner.identify_all(study, prepare)
    fabric.barrier()  # one process fills the cache of a machine; on others, each its own
    if not prepared:
        prepared = runner.identify_all(study, lambda *_: None)
    run = choose(study, prepared, label, seed)
    jobs = [Job(run=run)]
    if (warm := run.warm_start()) is not None:
        jobs.insert(0, Job(run=warm, warm_start=True))
    if not fabric.is_global_zero:
        return _take_part(jobs, directory, fabric, stop)
    others = reference_runs.expand(study, prepared)
    store, parent = runner.open_store(study, [*expand(study, prepared), *others], uri)
    runner.pending([run], store, retry=True)  # it was asked for
    settings = Settings(
        store_uri=uri,
        study=study.name,
        parent_id=parent,
        directory=directory,
        device=str(fabric.device),
        cores=max(1, cores() - _beside_this()),  # while this process scores, the others wait
    )
    for number, job in enumerate(jobs):
        begin = partial(distributed.from_first, fabric, number)
        outcome = worker.perform(job, settings, Here(show, stop), fabric=fabric, begin=begin)
        if outcome.status != FINISHED:
            return outcome
    distributed.from_first(fabric, None)
    return Outcome(FINISHED)


def _beside_this() -> int:
    """Processes of this training on this machine, besides this one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1


def _take_part(jobs: Sequence[Job], directory: Path, fabric: "Fabric", stop: Event) -> Outcome:
    """Take part in the trainings that the first process begins, until it says that there are no more."""
    nothing: int | None = None
    try:
        while (number := distributed.from_first(fabric, nothing)) is not None:
            run = jobs[number].run
            assert isinstance(run, Run)
            trained_codec.obtain(
                run,
                directory,
                fabric=fabric,
                observers=[_Stoppable(stop)],
                threads=share_of_cores(_beside_this() + 1),
            )
    except Exception as error:
        return outcome_of(error)
    return Outcome(FINISHED)


class _Stoppable(Observer):
    def __init__(self, stop: Event) -> None:
        self._stop = stop

    def should_stop(self) -> bool:
        return self._stop.is_set()
