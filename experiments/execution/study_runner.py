"""The run of a study: finished runs are skipped, the rest is shared out to workers and other runners."""

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from codec import weights
from experiments.common.atomic_files import remove_stale
from experiments.common.run_folder import REFERENCES, check_folder, is_intact
from experiments.data import SPLITS, prepare
from experiments.execution import scheduling
from experiments.execution.executors.contract import Executor
from experiments.execution.jobs import ELSEWHERE, LOST, REASON_LENGTH, STOPPED, Job, Outcome, Settings, Update
from experiments.execution.tracked_run import open_run
from experiments.studies import reference_runs
from experiments.studies.reference_runs import ReferenceRun
from experiments.studies.runs import Corpora, CorpusIdentity, Run, corpora, expand, study_hash
from experiments.studies.study import Study, StudyError
from experiments.tracking import leases
from experiments.tracking.leases import Leases
from experiments.tracking.mirrors.contract import Destination
from experiments.tracking.schema import (
    DIVERGED,
    FAILED,
    FINISHED,
    KIND_RUN,
    KIND_STUDY,
    KIND_WARM_START,
    RUNNING,
    Tag,
    contrasts,
    provenance,
    rows,
    status_of,
)
from experiments.tracking.store import Store
from quantizers.suggestions import did_you_mean

AnyRun = TypeVar("AnyRun", Run, ReferenceRun)

BROKEN = (FAILED, DIVERGED)
DAY = 86_400.0  # seconds


@dataclass
class Summary:
    """The outcome of a study: that of each run that was to do, by hash; `reused` were finished before, or
    by another runner meanwhile. other_rows: hashes of unfinished runs that `only` left out."""

    runs: list[Run]
    parent_id: str
    directory: Path
    reused: set[str] = field(default_factory=set)
    outcomes: dict[str, str] = field(default_factory=dict)
    other_rows: set[str] = field(default_factory=set)
    references: list[ReferenceRun] = field(default_factory=list)

    @property
    def finished(self) -> list[Run]:
        return [r for r in self.runs if r.hash in self.reused or self.outcomes.get(r.hash) == FINISHED]

    @property
    def asked(self) -> list[Run]:
        """The runs of the rows that were asked for, and those of other rows that are finished."""
        return [run for run in self.runs if run.hash not in self.other_rows]

    @property
    def complete(self) -> bool:
        return len(self.finished) == len(self.asked)

    @property
    def stopped(self) -> bool:
        return bool({STOPPED, LOST, ELSEWHERE} & set(self.outcomes.values()))

    def counts(self) -> dict[str, int]:
        """Number of runs by outcome, the references left out; the sum is that of all runs."""
        outcomes = [self._outcome(run) for run in self.runs]
        return {name: outcomes.count(name) for name in dict.fromkeys(sorted(outcomes, key=_ORDER.index))}

    def _outcome(self, run: Run) -> str:
        if run.hash in self.reused:
            return "reused"
        return OTHER if run.hash in self.other_rows else self.outcomes.get(run.hash, STOPPED)


OTHER = "other"  # of a row that was not asked for, and not finished before
_ORDER = [FINISHED, "reused", FAILED, DIVERGED, STOPPED, LOST, ELSEWHERE, OTHER]


def open_store(study: Study, runs: "Sequence[Run | ReferenceRun]", uri: str) -> tuple[Store, str]:
    """The store of a study, and the id of the parent run of these very runs."""
    store = Store(uri, study.name, study.question)
    identity = study_hash(runs)
    with Leases(store, leases.seconds()).waiting(f"study-{identity}"):
        parent = store.start(
            study.name,
            {
                Tag.STATUS: RUNNING,
                Tag.STARTED: "true",
                **rows({run.hash: run.label for run in runs}),
                **contrasts([one.model_dump() for one in study.contrasts]),
                **provenance(),
            },
            match={"kind": KIND_STUDY, "study_hash": identity},
        )
        store.log_params(parent, study.model_dump(mode="json", exclude={"contrasts"}))
    return store, parent


def pending(
    runs: Sequence[AnyRun], store: Store, retry: bool
) -> tuple[list[AnyRun], set[str], dict[str, tuple[str, str]]]:
    """Runs to do, hashes of finished ones, and those that failed or diverged before with their reasons.

    retry: broken ones are to do as well, and the warm starts that broke them.
    """
    current = store.current([run.hash for run in runs])
    known = {key: status_of(run) for key, run in current.items()}
    done = {key for key, (status, _) in known.items() if status == FINISHED}
    broken = {key: known[key] for key in known if known[key][0] in BROKEN}
    if retry:
        _take_up(runs, store)
        broken = {}
    todo = {run.hash: run for run in runs if run.hash not in done and run.hash not in broken}
    return list(todo.values()), done, broken


def _take_up(runs: "Sequence[Run | ReferenceRun]", store: Store) -> None:
    """Show broken runs, and the warm starts that broke them, as running."""
    warm = [start.training_hash for start in (run.warm_start() for run in runs) if start]
    for kind, hashes in ((KIND_RUN, [run.hash for run in runs]), (KIND_WARM_START, warm)):
        for logged in store.current(hashes, kind).values():
            if status_of(logged)[0] in BROKEN:
                store.set_status(str(logged.info.run_id), RUNNING)


def execute(
    runs: Sequence[Run],
    settings: Settings,
    executor: Executor,
    *,
    references: Sequence[ReferenceRun] = (),
    show: Callable[[Update], None],
) -> dict[str, Outcome]:
    """Do `runs` and `references`, each after its warm start; outcome by run hash.

    `show` is told of progress, and by an update with an `outcome` of every run that ended. A run that another
    runner works on is waited for, and one that has finished in the store counts as done. A run whose warm
    start fails or diverges has that outcome. On KeyboardInterrupt the states of the runs under way are saved,
    and they count as stopped.

    Raises FolderError where the folder of all runs cannot be written to.
    """
    check_folder(settings.directory)
    remove_stale(settings.directory / REFERENCES, older_than=DAY)
    store = Store(settings.store_uri, settings.study)
    warm = {start.training_hash: start for start in (run.warm_start() for run in runs) if start}
    trained = store.statuses(list(warm), KIND_WARM_START)
    jobs = [
        Job(run=start, warm_start=True)
        for key, start in warm.items()
        if trained.get(key, ("",))[0] != FINISHED or not is_intact(settings.directory / key)
    ]
    jobs += [Job(run=run) for run in runs]
    jobs += [Job(run=reference) for reference in references]
    with executor.open(settings) as pool:
        outcomes = scheduling.work(jobs, pool, Leases(store, settings.lease_seconds), show)
    for job in jobs:
        outcome = outcomes[job.key]
        if not outcome.logged and outcome.status in BROKEN:
            run_id = open_run(store, job, settings.parent_id)
            store.set_status(run_id, outcome.status, outcome.reason[:REASON_LENGTH])
    return {key: outcome for key, outcome in outcomes.items() if key not in warm}


def supersede(
    runs: "Sequence[Run | ReferenceRun]", store: Store, directory: Path, *, warm_starts: bool = True
) -> None:
    """Put what there is of `runs`, and of their warm starts with `warm_starts`, aside, so that it is done
    again.

    Runs stay in MLflow, and in tables until new ones finish. Weights on disk are deleted, also those of runs
    that this store does not know: `directory` may have them from another store, and of earlier code. What
    another runner of this store works on is left to it; a runner of another store would lose its weights.
    Raises StudyError where a folder cannot be deleted.
    """
    known = Leases(store, leases.seconds())
    starts = [start for start in (run.warm_start() for run in runs) if start and warm_starts]
    jobs = [*(Job(run=run) for run in runs), *(Job(run=start, warm_start=True) for start in starts)]
    for kind in (KIND_RUN, KIND_WARM_START):
        of_kind = {job.key: job for job in jobs if job.kind == kind}
        logged = store.current(list(of_kind), kind)
        for key, job in of_kind.items():
            folder = directory / job.lease
            if key not in logged and not folder.exists():
                continue
            if (lease := known.acquire(job.lease)) is None:
                continue
            with lease:
                if key in logged:
                    store.set_tags(str(logged[key].info.run_id), {Tag.SUPERSEDED: "true"})
                shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():  # its weights would be taken for new ones
                raise StudyError(f"--force cannot delete {folder}; delete it, and start the command again")


def identify(
    spec: str,
    sample_rate: int,
    progress: Callable[[str, int, int], None],
    tell: Callable[[str], None] = lambda line: None,
    splits: Collection[str] = SPLITS,
) -> CorpusIdentity:
    """Prepare a corpus, and say what it is. `tell` gets lines that a user should read.

    Raises DataError, also where one of `splits` has no usable clips.
    """
    shards = prepare(spec, sample_rate=sample_rate, progress=progress, needed=splits)
    for line in filter(None, (shards.spoken_here(), shards.left_out())):
        tell(line)
    return CorpusIdentity(
        spec=spec, name=shards.name, content_hash=shards.content_hash, synthetic=shards.synthetic
    )


def identify_all(
    study: Study,
    progress: Callable[[str, int, int], None],
    tell: Callable[[str], None] = lambda line: None,
) -> dict[tuple[str, int], CorpusIdentity]:
    """`identify` for all corpora that `study` needs, by name and sample rate."""
    return {
        (spec, rate): identify(spec, rate, progress, tell, splits) for spec, rate, splits in corpora(study)
    }


def require_weights(study: Study) -> None:
    """See that the released weights that rows of `study` start from are at hand. Raises WeightsError with a
    remedy."""
    starts = (cell.train.warm_start for cell in study.cells())
    named = (start.weights for start in starts if start is not None)
    for name in dict.fromkeys(filter(None, named)):
        if absence := weights.absence(name):
            raise weights.WeightsError(absence)


def run_study(
    study: Study,
    corpus: CorpusIdentity | Corpora,
    *,
    uri: str,
    directory: Path,
    executor: Executor,
    device: str = "cpu",
    retry: bool = False,
    force: bool = False,
    only: Sequence[str] = (),
    keep_warm_starts: bool = False,
    mirrors: Sequence[Destination] = (),
    announce: Callable[[Sequence[Run | ReferenceRun], set[str], dict[str, tuple[str, str]]], None],
    show: Callable[[Update], None],
) -> tuple[Summary, Store]:
    """Run what is missing of `study`. A reference that could not run before is tried again.

    retry: runs that failed or diverged, too. force: all of them, and their warm starts unless
    `keep_warm_starts`. only: labels of the rows to do; empty is all. Rows that are left out keep their state.
    mirrors: trackers that get the metrics of what is done now, too.
    announce: called once with the runs to do, the hashes of finished runs, and the broken ones.
    """
    require_weights(study)
    runs = expand(study, corpus)
    references = reference_runs.expand(study, corpus)
    store, parent = open_store(study, [*runs, *references], uri)
    chosen, chosen_references = _of_rows(runs, references, only)
    if force:
        again: list[Run | ReferenceRun] = [*chosen, *chosen_references]
        supersede(again, store, directory, warm_starts=not keep_warm_starts)
    todo, reused, broken = pending(chosen, store, retry)
    references_todo, _, _ = pending(chosen_references, store, retry=True)
    hashes = {run.hash for run in chosen}
    _, done_before, _ = pending([run for run in runs if run.hash not in hashes], store, retry=False)
    announce([*todo, *references_todo], reused, broken)
    summary = Summary(runs, parent, directory, reused, {key: status for key, (status, _) in broken.items()})
    summary.references = references
    summary.reused |= done_before
    summary.other_rows = {run.hash for run in runs} - hashes - done_before
    if todo or references_todo:
        settings = Settings(
            store_uri=uri,
            study=study.name,
            parent_id=parent,
            directory=directory,
            device=device,
            mirrors=mirrors,
        )
        outcomes = execute(todo, settings, executor, references=references_todo, show=show)
        if any(outcome.store_lost for outcome in outcomes.values()):
            store.patience = 0.0  # a worker has waited already
        summary.outcomes |= {key: outcome.status for key, outcome in outcomes.items()}
        summary.reused |= {
            key for key, outcome in outcomes.items() if outcome.reused and outcome.status == FINISHED
        }
    if summary.stopped or (summary.complete and summary.other_rows):
        store.pause(parent)
    else:
        store.set_status(parent, FINISHED if summary.complete else FAILED)
    return summary, store


def _of_rows(
    runs: Sequence[Run], references: Sequence[ReferenceRun], labels: Sequence[str]
) -> tuple[list[Run], list[ReferenceRun]]:
    """The runs and references of the rows with `labels`, all for none. Raises StudyError for a wrong one."""
    known = list(dict.fromkeys([*(run.label for run in runs), *(run.label for run in references)]))
    for label in labels:
        if label not in known:
            hint = did_you_mean(label, known)
            raise StudyError(f"--only {label}: the study has no such row; {hint}its rows: {', '.join(known)}")
    wanted = set(labels or known)
    return (
        [run for run in runs if run.label in wanted],
        [run for run in references if run.label in wanted],
    )
