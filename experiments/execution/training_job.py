"""The job of a training: train, score, log one run."""

import json
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.studies.runs import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from codec.model import Codec
    from experiments.data.dataset import Shards
    from experiments.evaluation.test_set import Reconstructions
    from experiments.tracking.journal import MetricsJournal
    from experiments.tracking.leases import Lease
    from experiments.tracking.store import Store
    from experiments.tracking.system_metrics import SystemMetrics
    from experiments.training.observer import Trained
from experiments.common.run_folder import HISTORY
from experiments.evaluation import robustness
from experiments.evaluation import test_set as assess
from experiments.execution.jobs import (
    ELSEWHERE,
    STOPPED,
    VALIDATION_LOSS,
    Job,
    Link,
    Outcome,
    Settings,
    Update,
)
from experiments.execution.tracked_run import open_run
from experiments.tracking import weights as stored_weights
from experiments.tracking.artifacts import write_audio
from experiments.tracking.journal import MetricsJournal
from experiments.tracking.schema import DIVERGED, FAILED, FINISHED, PRUNED, TAG
from experiments.tracking.store import TrackingError
from experiments.tracking.system_metrics import SystemMetrics
from experiments.training import distributed as processes
from experiments.training import trained_codec as weights
from experiments.training.observer import Diverged, Interrupted
from experiments.training.state import CheckpointError


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

        self._journal = MetricsJournal(self.directory / HISTORY, store, run_id)
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
        name = f"{self.run.label} seed {self.run.seed}"
        return stored_weights.log(self._store, run_id, name, self.directory, self.run.resolved(), steps)

    def _train_and_assess(self, store: "Store", run_id: str) -> None:
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
        def check(done: int, total: int) -> None:
            if self.should_stop():
                raise Interrupted(stage)
            self._tell(stage, done, total)

        return check

    def _tell(self, stage: str, done: int, total: int, text: str = "") -> None:
        self._link.tell(Update(key=self.job.key, stage=stage, done=done, total=total, text=text))
