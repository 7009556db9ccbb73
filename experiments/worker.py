"""One run from start to finish, in a process of its own: train, assess, log."""

import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.runs import Run

if TYPE_CHECKING:
    from codec.model import Codec
    from experiments.assess import Reconstructions
    from experiments.data import Shards
    from experiments.reference_runs import ReferenceRun
    from experiments.tracking import MetricsJournal, Store
    from experiments.train import Trained

STOPPED = "stopped"  # the outcome of a run that goes on later; others are the statuses of `tracking`


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where and how runs are worked on; nothing here decides a result."""

    store_uri: str
    study: str
    parent_id: str
    directory: Path
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to do; `warm_start` only trains the weights that other runs start from."""

    run: "Run | ReferenceRun"
    warm_start: bool = False

    @property
    def key(self) -> str:
        return self.run.training_hash if self.warm_start and isinstance(self.run, Run) else self.run.hash


class Outcome(NamedTuple):
    """How a job ended: a status of `tracking`, or `stopped`; and why, unless it finished."""

    status: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a worker tells: a stage's progress, or the outcome of a job."""

    key: str
    stage: str = ""
    done: int = 0
    total: int = 0
    text: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class _Process:
    """What a worker process was started with."""

    updates: "Queue[Update]"
    stop: Event
    settings: Settings


_process: _Process | None = None


def initialise(updates: "Queue[Update]", stop: Event, settings: Settings) -> None:
    """Prepare a worker process. It ends at once when the process that started it is gone."""
    import multiprocessing
    import signal
    import threading

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)  # the states on disk are what the next start goes on from

    threading.Thread(target=follow, daemon=True).start()
    torch.set_num_threads(1)  # so that a result does not depend on the number of cores
    global _process
    _process = _Process(updates, stop, settings)


def perform(job: Job) -> "Outcome":
    """Do `job` in this worker process."""
    if _process is None:
        raise RuntimeError("not a worker process")
    if isinstance(job.run, Run):
        return Worker(job, job.run, _process.updates, _process.stop, _process.settings).perform()
    from experiments import reference_runs

    return reference_runs.perform(job.run, _process.updates, _process.stop, _process.settings)


class Worker:
    """Carries one job out. Also the observer of its training."""

    def __init__(self, job: Job, run: Run, updates: "Queue[Update]", stop: Event, settings: Settings) -> None:
        self.job, self.run, self.settings = job, run, settings
        self._updates, self._stop = updates, stop
        self._journal: MetricsJournal | None = None
        self.directory = settings.directory / self.run.training_hash

    def perform(self) -> Outcome:
        """Do the job: it ends as `finished`, `failed`, `diverged` or `stopped`."""
        from experiments.tracking import DIVERGED, FAILED, FINISHED, Store, TrackingError
        from experiments.train import Diverged, Interrupted
        from experiments.training_state import CheckpointError

        store: Store | None = None
        run_id = ""
        try:
            self._tell("starting", 0, 0)
            store = Store(self.settings.store_uri, self.settings.study)
            with locked(self.directory):
                if self.job.warm_start:
                    self._train(store, self.settings.parent_id, f"warm_start/seed_{self.run.seed}/")
                    return Outcome(FINISHED)
                run_id = open_run(store, self.run, self.settings.parent_id)
                self._train_and_assess(store, run_id)
            store.set_status(run_id, FINISHED)
            return Outcome(FINISHED)
        except Interrupted as error:
            if store and run_id:
                store.pause(run_id)
            return Outcome(STOPPED, str(error))
        except (TrackingError, CheckpointError) as error:  # the machine's trouble, not the run's
            self._tell(f"stopped: {error}", 0, 0)
            return Outcome(STOPPED, str(error))
        except Exception as error:
            status = DIVERGED if isinstance(error, Diverged) else FAILED
            self._tell(f"{status}: {error}", 0, 0)
            if store and run_id:
                self._log_failure(store, run_id, status, error)
            return Outcome(status, str(error))

    # What a training tells (train.Observer).

    def restored(self, step: int) -> None:
        if self._journal:
            self._journal.begin(step)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if self._journal:
            self._journal.add(step, values)

    def saving(self, step: int) -> None:
        if self._journal:
            self._journal.write()

    def progress(self, step: int, steps: int, text: str) -> None:
        self._tell("training", step, steps, text)

    def should_stop(self) -> bool:
        return self._stop.is_set()

    # The steps of a run.

    def _train(self, store: "Store", run_id: str, prefix: str = "") -> "tuple[Codec, Trained, Shards]":
        """The trained codec: from disk if it is there, else trained now or trained on."""
        import torch

        from experiments import data, training_state
        from experiments.tracking import MetricsJournal
        from experiments.train import Trained, train

        shards = data.prepare(self.run.corpus.spec, sample_rate=self.run.sample_rate)
        if shards.content_hash != self.run.corpus.content_hash:
            raise RuntimeError(f"the corpus {self.run.corpus.spec} changed while the study ran")
        codec = self.run.codec()
        device = torch.device(self.settings.device)
        weights, summary = self.directory / "codec.safetensors", self.directory / "trained.json"
        journal = self.directory / "metrics.jsonl"
        self._journal = MetricsJournal(journal, store, run_id, prefix)
        if weights.exists() and summary.exists():
            tensors, _ = training_state.read_safetensors(weights)
            codec.load_state_dict(tensors)
            trained = Trained(**json.loads(summary.read_text(encoding="utf-8")))
            self._journal.begin(trained.steps)
        else:
            self._load_warm_start(codec)
            trained = train(
                codec,
                self.run.train,
                train_split=shards.split("train"),
                validation_split=shards.split("validation"),
                seed=self.run.seed,
                identity=self.run.training_hash,
                state_path=self.directory / "state.safetensors",
                observer=self,
                device=device,
            )
            config = {"config": json.dumps(self.run.resolved())}
            training_state.write_safetensors(weights, codec.state_dict(), config)
            summary.write_text(json.dumps(asdict(trained)), encoding="utf-8")
            (self.directory / "state.safetensors").unlink(missing_ok=True)
        self._journal.finish()
        return codec.to(device), trained, shards

    def _load_warm_start(self, codec: "Codec") -> None:
        from experiments.training_state import read_safetensors

        warm = self.run.warm_start()
        if warm is None:
            return
        tensors, _ = read_safetensors(self.settings.directory / warm.training_hash / "codec.safetensors")
        for part in ("encoder", "decoder"):
            prefix = f"{part}."
            mine = {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
            codec.get_submodule(part).load_state_dict(mine)

    def _train_and_assess(self, store: "Store", run_id: str) -> None:
        from experiments import assess

        codec, trained, shards = self._train(store, run_id)
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
        self._tell("logging", 0, 0)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            scores.to_parquet(folder / "utterances.parquet", index=False)
            self._write_artifacts(folder, made)
            store.log_files(run_id, folder)
        store.log_values(run_id, values, trained.steps)

    def _write_artifacts(self, folder: Path, made: "Reconstructions") -> None:
        import numpy as np
        import yaml

        from experiments.artifacts import write_audio

        (folder / "config.yaml").write_text(yaml.safe_dump(self.run.resolved(), sort_keys=False))
        (folder / "usage.json").write_text(json.dumps(made.usage, indent=1))
        np.savez_compressed(folder / "histograms.npz", **made.histograms)  # type: ignore[arg-type]
        if made.latents:
            np.savez_compressed(folder / "latents.npz", **made.latents)  # type: ignore[arg-type]
        (folder / "checkpoint").mkdir()
        shutil.copyfile(self.directory / "codec.safetensors", folder / "checkpoint" / "codec.safetensors")
        write_audio(folder, made.audio, self.run.evaluate.audio_examples, self.run.sample_rate)

    def _log_failure(self, store: "Store", run_id: str, status: str, error: Exception) -> None:
        from experiments.tracking import TrackingError

        try:
            if self._journal:
                self._journal.write()
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
        self._updates.put(Update(key=self.job.key, stage=stage, done=done, total=total, text=text))


def open_run(store: "Store", run: "Run | ReferenceRun", parent_id: str) -> str:
    """The MLflow run of `run`: the one it had, or a new one below `parent_id`."""
    from experiments import metrics
    from experiments.tracking import KIND_RUN, PARENT_TAG, RUNNING, TAG, provenance

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
    name = run.label if run.seed is None else f"{run.label} seed {run.seed}"
    run_id = store.start(name, tags, match={"kind": KIND_RUN, "run_hash": run.hash})
    store.log_params(run_id, run.resolved())
    store.log_dataset(run_id, run.corpus.name, run.corpus.content_hash, run.corpus.spec)
    return run_id


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Only one process at a time works in `directory`; the system frees the lock if its holder dies."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except ImportError:  # Windows: runs are not shared between processes there
            pass
        yield
