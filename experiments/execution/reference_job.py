"""The job of a reference codec: reconstruct, score, log."""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.execution.jobs import Link, Outcome, Settings
    from experiments.tracking.leases import Lease
    from experiments.tracking.store import Store
from experiments import data
from experiments.evaluation import test_set as assess
from experiments.evaluation.reference_codecs import rates, reconstruct
from experiments.execution.jobs import ELSEWHERE, STOPPED, Job, Outcome, Update
from experiments.execution.tracked_run import open_run
from experiments.studies.reference_runs import ReferenceRun
from experiments.tracking.artifacts import write_audio
from experiments.tracking.schema import FAILED, FINISHED
from experiments.tracking.store import TrackingError
from experiments.training.observer import Interrupted


def perform(
    run: ReferenceRun, settings: "Settings", link: "Link", store: "Store", lease: "Lease"
) -> "Outcome":
    """Score one reference in a worker process: it ends as `finished`, `failed` or `stopped`, or `elsewhere`
    when the lease was lost. Raises TrackingError."""

    def tell(stage: str, done: int, total: int) -> None:
        if link.stopping() or lease.lost:
            raise Interrupted(stage)
        link.tell(Update(key=run.hash, stage=stage, done=done, total=total))

    run_id = ""
    try:
        run_id = open_run(store, Job(run=run), settings.parent_id)
        _assess(run, store, run_id, tell)
        store.set_status(run_id, FINISHED)
        return Outcome(FINISHED)
    except Interrupted as error:
        if lease.lost:  # the run is another's now
            return Outcome(ELSEWHERE, "taken over while this machine was cut off")
        with suppress(TrackingError):  # it is away; the run goes on all the same
            store.pause(run_id)
        return Outcome(STOPPED, str(error))
    except TrackingError:
        raise
    except Exception as error:
        link.tell(Update(key=run.hash, stage=f"{FAILED}: {error}"))
        if run_id and not lease.lost:
            store.set_status(run_id, FAILED, str(error)[:500])
        return Outcome(FAILED, str(error))


def _assess(run: ReferenceRun, store: "Store", run_id: str, tell: Any) -> None:
    import yaml

    codec = run.codec()
    tell("loading", 0, 0)
    codec.prepare()
    shards = data.prepare(run.corpus.spec, sample_rate=run.sample_rate)
    if shards.content_hash != run.corpus.content_hash:
        raise RuntimeError(f"the corpus {run.corpus.spec} changed while the study ran")
    made, bits = reconstruct(
        codec, shards.split("test"), run.sample_rate, lambda done, total: tell("reconstructing", done, total)
    )
    scores, values = assess.quality(
        made, run.sample_rate, run.evaluate.metrics, lambda done, total: tell("scoring", done, total)
    )
    values |= rates(codec, bits, made.audio_seconds)
    values["cost/real_time_factor"] = made.compute_seconds / made.audio_seconds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scores.to_parquet(folder / "utterances.parquet", index=False)
        (folder / "config.yaml").write_text(yaml.safe_dump(run.resolved(), sort_keys=False))
        write_audio(folder, made.audio, run.evaluate.audio_examples, run.sample_rate)
        store.log_files(run_id, folder)
    store.log_values(run_id, values)
