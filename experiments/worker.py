"""One run from start to finish, in a process of its own: train, assess, log."""

import json
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from experiments import leases
from experiments.runs import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from codec.model import Codec
    from experiments.assess import Reconstructions
    from experiments.data import Shards
    from experiments.leases import Lease
    from experiments.metrics_journal import MetricsJournal
    from experiments.reference_runs import ReferenceRun
    from experiments.system_metrics import SystemMetrics
    from experiments.tracking import Store
    from experiments.train import Trained

VALIDATION_LOSS = "validation/loss"

# Outcomes of a job that is not at its end; others are the statuses of `tracking`.
STOPPED = "stopped"  # goes on later
LOST = "lost"  # its process was killed
ELSEWHERE = "elsewhere"  # another runner works on it


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where and how runs are worked on; nothing here decides a result.

    device: as torch names it, or auto. lease_seconds: see `leases`. stop_above: by run hash, the validation
    loss at each step above which a search gives the run up.
    """

    store_uri: str
    study: str
    parent_id: str
    directory: Path
    device: str = "cpu"
    lease_seconds: float = field(default_factory=leases.seconds)
    stop_above: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to do; `warm_start` only trains the weights that other runs start from."""

    run: "Run | ReferenceRun"
    warm_start: bool = False

    @property
    def key(self) -> str:
        """The identity of what is to be done."""
        return self.run.training_hash if self.warm_start and isinstance(self.run, Run) else self.run.hash

    @property
    def lease(self) -> str:
        """What only one process at a time may work on: runs of one training share its folder."""
        return self.run.training_hash if isinstance(self.run, Run) else self.run.hash

    @property
    def needs(self) -> str | None:
        """Key of the warm start that has to be done before."""
        start = None if self.warm_start else self.run.warm_start()
        return start.training_hash if start else None

    @property
    def kind(self) -> str:
        """Kind of its run in the tracking store."""
        from experiments.tracking_schema import KIND_RUN, KIND_WARM_START

        return KIND_WARM_START if self.warm_start else KIND_RUN


class Outcome(NamedTuple):
    """How a job ended: a status of `tracking`, or `stopped`, `lost`, `elsewhere`; and why, unless it
    finished. reused: another runner did it. kept_back: its warm start ended so, and it was not begun."""

    status: str
    reason: str = ""
    reused: bool = False
    kept_back: bool = False


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a worker tells: a stage's progress, or the outcome of a job."""

    key: str
    stage: str = ""
    done: int = 0
    total: int = 0
    text: str = ""
    outcome: str = ""


class Link(Protocol):
    """What joins a worker to the runner that gave it a job."""

    def tell(self, update: Update) -> None:
        """Send an update."""

    def stopping(self) -> bool:
        """Whether the work is to be saved and stopped."""


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
    from experiments.leases import Leases
    from experiments.tracking import Store, TrackingError
    from experiments.tracking_schema import DIVERGED, FAILED, FINISHED

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
            from experiments import reference_runs

            return reference_runs.perform(job.run, settings, link, store, lease)
    except TrackingError as error:  # the machine's trouble, not the run's
        link.tell(Update(key=job.key, stage=f"stopped: {error}"))
        return Outcome(STOPPED, str(error))


class Worker:
    """Carries one job out. Also the observer of its training."""

    def __init__(
        self, job: Job, run: Run, settings: Settings, link: Link, store: "Store", lease: "Lease"
    ) -> None:
        self.job, self.run, self.settings = job, run, settings
        self._link, self._store, self._lease = link, store, lease
        self._journal: MetricsJournal | None = None
        self._system: SystemMetrics | None = None
        self._pruned = ""
        self._stop_above = {} if job.warm_start else settings.stop_above.get(run.hash, {})
        self.fabric: Fabric | None = None
        self.begin: Callable[[], None] = lambda: None
        self.directory = settings.directory / self.run.training_hash

    def perform(self) -> Outcome:
        """Do the job: it ends as `finished`, `failed`, `diverged`, `stopped`, or `elsewhere` when the lease
        was lost."""
        from experiments.tracking import TrackingError
        from experiments.tracking_schema import DIVERGED, FAILED, FINISHED
        from experiments.train import Diverged, Interrupted
        from experiments.training_state import CheckpointError

        store, run_id = self._store, ""
        try:
            run_id = open_run(store, self.job, self.settings.parent_id)
            self._fetch()
            if self.job.warm_start:
                _, trained, _ = self._train(store, run_id)
                self._log_weights(run_id, trained.steps)
            else:
                self._train_and_assess(store, run_id)
            if self._lease.lost:
                raise Interrupted("logging")
            store.set_status(run_id, FINISHED)
            return Outcome(FINISHED)
        except Interrupted as error:
            return self._interrupted(run_id, str(error))
        except (TrackingError, CheckpointError) as error:  # the machine's trouble, not the run's
            self._tell(f"stopped: {error}", 0, 0)
            return Outcome(STOPPED, str(error))
        except Exception as error:
            status = DIVERGED if isinstance(error, Diverged) else FAILED
            self._tell(f"{status}: {error}", 0, 0)
            if run_id and not self._lease.lost:
                self._log_failure(store, run_id, status, error)
            return Outcome(status, str(error))
        finally:
            if self._journal:
                self._journal.close()

    # What a training tells (train.Observer).

    def restored(self, step: int) -> None:
        if self._journal:
            self._journal.begin(step)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if self._journal:
            sampled = self._system.sample() if self._system else {}
            self._journal.add(step, {**values, **sampled})
        loss, most = values.get(VALIDATION_LOSS), self._stop_above.get(step)
        if loss is not None and most is not None and not loss <= most:
            self._pruned = f"validation loss {loss:.4g} at step {step} is above {most:.4g}"

    def warning(self, step: int, name: str, text: str) -> None:
        self._tell(f"warning: step {step}: {text}", 0, 0)
        if self._journal:
            self._journal.warn(step, name, text)

    def saving(self, step: int) -> None:
        if self._journal:
            self._journal.write()

    def progress(self, step: int, steps: int, text: str) -> None:
        self._tell("training", step, steps, text)

    def should_stop(self) -> bool:
        return self._link.stopping() or self._lease.lost or bool(self._pruned)

    # The steps of a run.

    def _train(self, store: "Store", run_id: str) -> "tuple[Codec, Trained, Shards]":
        """The trained codec: from disk if it is there, else trained now or trained on."""
        import torch

        from experiments import processes, weights
        from experiments.metrics_journal import MetricsJournal
        from experiments.system_metrics import SystemMetrics
        from experiments.tracking_schema import TAG

        self._journal = MetricsJournal(self.directory / "metrics.jsonl", store, run_id)
        if not self.job.warm_start:
            self._system = SystemMetrics()
        fabric = self.fabric or processes.single(torch.device(self.settings.device))
        self.begin()
        codec, trained, shards = weights.obtain(
            self.run, self.settings.directory, fabric=fabric, observer=self, run_id=run_id
        )
        self._journal.finish()
        if trained.precision:
            store.set_tags(run_id, {f"{TAG}precision": trained.precision})
        return codec, trained, shards

    def _fetch(self) -> None:
        """See that what the store has of the weights of this training and of its warm start is on disk."""
        from experiments import stored_weights
        from experiments.training_state import CheckpointError

        folder = self.settings.directory
        start = self.run.warm_start()
        if stored_weights.fetch(self._store, self.run.training_hash, self.directory) or start is None:
            return
        if not stored_weights.fetch(self._store, start.training_hash, folder / start.training_hash):
            raise CheckpointError(
                f"the weights of the warm start {start.training_hash} are neither in {folder} nor in the "
                "tracking store; train them again with --force"
            )

    def _log_weights(self, run_id: str, steps: int) -> str:
        """Log what was trained, for people and for other machines; the id of the model."""
        from experiments import stored_weights

        name = f"{self.run.label} seed {self.run.seed}"
        return stored_weights.log(self._store, run_id, name, self.directory, self.run.resolved(), steps)

    def _train_and_assess(self, store: "Store", run_id: str) -> None:
        from experiments import assess

        codec, trained, shards = self._train(store, run_id)
        model_id = self._log_weights(run_id, trained.steps)
        started = time.monotonic()
        made = assess.reconstruct(codec, shards.split("test"), self._check("reconstructing"))
        scores, values = assess.quality(
            made,
            self.run.sample_rate,
            self.run.evaluate.metrics,
            self._check("scoring"),
            self.settings.directory / "references",
        )
        values |= {
            **assess.rates(codec, made.usage),
            **assess.use(made.usage),
            **assess.cost(codec, made),
            "cost/train_seconds": trained.seconds,
            "cost/audio_seconds_trained": trained.audio_seconds,
            "train/skipped_batches": float(trained.skipped),
        }
        if codec.quantizer.streams:
            values["eval/round_trip_exact"] = made.exact / len(made.audio)
        if self.run.evaluate.bit_exact == "bf16":
            values |= assess.in_bf16(codec, shards.split("test"), self._check("coding in bf16"))
        if self.run.evaluate.robustness is not None:
            from experiments import robustness

            values |= robustness.measure(
                codec,
                shards.split("test"),
                self.run.evaluate.robustness,
                self.run.evaluate.metrics,
                self._check("disturbing"),
            )
        values["cost/evaluate_seconds"] = time.monotonic() - started
        self._tell("logging", 0, 0)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            scores.to_parquet(folder / "utterances.parquet", index=False)
            self._write_artifacts(folder, made)
            store.log_files(run_id, folder)
        store.log_values(run_id, values, trained.steps, model_id)

    def _write_artifacts(self, folder: Path, made: "Reconstructions") -> None:
        import numpy as np
        import yaml

        from experiments.artifacts import write_audio

        (folder / "config.yaml").write_text(yaml.safe_dump(self.run.resolved(), sort_keys=False))
        (folder / "usage.json").write_text(json.dumps(made.usage, indent=1))
        np.savez_compressed(folder / "histograms.npz", **made.histograms)  # type: ignore[arg-type]
        if made.latents:
            np.savez_compressed(folder / "latents.npz", **made.latents)  # type: ignore[arg-type]
        if made.slices:
            np.savez_compressed(folder / "slices.npz", **made.slices)  # type: ignore[arg-type]
        write_audio(folder, made.audio, self.run.evaluate.audio_examples, self.run.sample_rate)

    def _interrupted(self, run_id: str, reason: str) -> Outcome:
        """Leave a run that others asked to stop or took over, or that a search gives up."""
        from experiments.tracking import TrackingError
        from experiments.tracking_schema import PRUNED

        if self._lease.lost:  # the run is another's now
            return Outcome(ELSEWHERE, "taken over while this machine was cut off")
        try:
            if self._pruned and not self._link.stopping() and self._journal:
                self._journal.finish()
                self._store.set_status(run_id, PRUNED, self._pruned)
                return Outcome(PRUNED, self._pruned)
            if run_id:
                self._store.pause(run_id)
        except TrackingError:  # it is away; the run goes on all the same
            pass
        return Outcome(STOPPED, reason)

    def _log_failure(self, store: "Store", run_id: str, status: str, error: Exception) -> None:
        from experiments.tracking import TrackingError

        try:
            if self._journal:
                self._journal.finish()
            with tempfile.TemporaryDirectory() as temporary:
                (Path(temporary) / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
                store.log_files(run_id, Path(temporary))
            store.set_status(run_id, status, str(error)[:500])
        except TrackingError:
            traceback.print_exception(error)

    def _check(self, stage: str) -> Any:
        from experiments.train import Interrupted

        def check(done: int, total: int) -> None:
            if self.should_stop():
                raise Interrupted(stage)
            self._tell(stage, done, total)

        return check

    def _tell(self, stage: str, done: int, total: int, text: str = "") -> None:
        self._link.tell(Update(key=self.job.key, stage=stage, done=done, total=total, text=text))


def open_run(store: "Store", job: Job, parent_id: str) -> str:
    """The MLflow run of `job`: the one it had, or a new one below `parent_id`."""
    from experiments import metrics
    from experiments.tracking_schema import PARENT_TAG, RUNNING, TAG, provenance

    run = job.run
    tags = {
        PARENT_TAG: parent_id,
        f"{TAG}status": RUNNING,
        f"{TAG}reason": "",
        f"{TAG}protocol": metrics.PROTOCOL,
        f"{TAG}quantizer": run.quantizer,
        f"{TAG}label": run.label,
        f"{TAG}seed": "" if run.seed is None else str(run.seed),
        f"{TAG}reference": str(run.reference).lower(),
        f"{TAG}corpus": run.corpus.name,
        f"{TAG}corpus_hash": run.corpus.content_hash,
        f"{TAG}synthetic": str(run.corpus.synthetic).lower(),
        **provenance(),
    }
    if isinstance(run, Run):
        tags[f"{TAG}training_hash"] = run.training_hash
    name = run.label if run.seed is None else f"{run.label} seed {run.seed}"
    run_id = store.start(name, tags, match={"kind": job.kind, "run_hash": job.key})
    store.log_params(run_id, run.resolved())
    store.log_dataset(run_id, run.corpus.name, run.corpus.content_hash, run.corpus.spec)
    return run_id
