"""The job of a reference codec: reconstruct, score, log."""

from experiments import data
from experiments.evaluation import test_set
from experiments.evaluation.bitrates import of_reference
from experiments.evaluation.reference_codecs import reconstruct
from experiments.execution.context import Context
from experiments.studies.reference_runs import ReferenceRun
from experiments.tracking import artifacts


def carry_out(run: ReferenceRun, context: Context, run_id: str) -> None:
    """Score the reference of `run`, tracked as `run_id`. Raises Interrupted and TrackingError."""
    codec = run.codec()
    context.checking("loading")(0, 0)
    codec.prepare(context.settings.device)
    shards = data.unchanged(run.corpus.spec, run.corpus.content_hash, sample_rate=run.sample_rate)
    check = context.checking("reconstructing")
    reconstructions, bits = reconstruct(codec, shards.split("test"), run.sample_rate, check)
    scores, values = test_set.quality(
        reconstructions,
        run.sample_rate,
        run.evaluate.metrics,
        context.checking("scoring"),
        workers=context.scorers,
    )
    values |= of_reference(codec, bits, reconstructions.audio_seconds)
    values["cost/real_time_factor"] = reconstructions.compute_seconds / reconstructions.audio_seconds
    with artifacts.logged(context.store, run_id) as folder:
        artifacts.write_scores(folder, scores, run.resolved())
        artifacts.write_audio(folder, reconstructions.audio, run.evaluate.audio_examples, run.sample_rate)
    context.store.log_values(run_id, values)
    with context.mirrored(run.label, run_id) as mirrors:
        mirrors.scores(0, values)
