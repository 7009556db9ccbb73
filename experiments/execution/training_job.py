"""The job of a training: train, score and log one run, or only train the warm start of others."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from experiments import data
from experiments.common.atomic_files import remove_stale
from experiments.common.run_folder import HISTORY, REFERENCES
from experiments.common.tensor_files import DamagedFile
from experiments.evaluation import bitrates, coded_rates, robustness, test_set, token_model
from experiments.execution.context import Context
from experiments.execution.job_observers import (
    JournalObserver,
    MirrorObserver,
    PruningObserver,
    RunnerObserver,
)
from experiments.execution.outcomes import Pruned
from experiments.studies.runs import Run
from experiments.tracking import artifacts, descriptions
from experiments.tracking.journal import MetricsJournal
from experiments.tracking.mirrors.mirroring import Mirrors
from experiments.tracking.models import weights as stored_weights
from experiments.tracking.schema import Tag
from experiments.tracking.store import TrackingError
from experiments.tracking.system_metrics import SystemMetrics
from experiments.training import distributed, trained_codec
from experiments.training.checkpoint import CheckpointError
from experiments.training.decays import DecayedWeights
from experiments.training.observer import Interrupted, Observer, Trained

if TYPE_CHECKING:
    from codec.model import Codec
    from experiments.data.dataset import Shards, Split

Obtained = tuple["Codec", Trained, "Shards"]


def carry_out(run: Run, context: Context, run_id: str) -> None:
    """Train and score `run`, tracked as `run_id`; a warm start is only trained.

    Raises what a training raises, Pruned where a search gives it up, and TrackingError.
    """
    store, folder = context.store, context.settings.directory / run.training_hash
    remove_stale(folder)
    _fetch_weights(run, context)
    name = f"{run.label} seed {run.seed}"
    with context.mirrored(name, run_id) as mirrors:
        codec, trained, shards = _train(run, context, run_id, mirrors)
        if run.asked is not None:
            run = run.fitted(codec.quantizer.config)
            store.log_params(run_id, run.resolved())
        model_id = stored_weights.log(store, run_id, name, folder, run.resolved(), trained.steps)
        if not context.job.warm_start:
            values = _assess(run, context, run_id, model_id, (codec, trained, shards))
            mirrors.scores(trained.steps, values)


def _fetch_weights(run: Run, context: Context) -> None:
    """Bring what the store has of the weights of this training and of its warm start onto the disk."""
    directory, start = context.settings.directory, run.warm_start()
    own = directory / run.training_hash
    if stored_weights.fetch(context.store, run.training_hash, own, context.warn) or start is None:
        return
    warm = directory / start.training_hash
    if not stored_weights.fetch(context.store, start.training_hash, warm, context.warn):
        raise CheckpointError(
            f"the weights of the warm start {start.training_hash} are neither in {directory} nor in the "
            "tracking store. Remedy: start the same command again; they are trained again then."
        )


def _train(run: Run, context: Context, run_id: str, mirrors: Mirrors) -> Obtained:
    """The trained codec: from disk if it is there, else trained now or trained on."""
    settings, warm_start = context.settings, context.job.warm_start
    journal = MetricsJournal(settings.directory / run.training_hash / HISTORY, context.store, run_id)
    pruning = PruningObserver({} if warm_start else settings.stop_above.get(run.hash, {}))
    observers: list[Observer] = [
        JournalObserver(journal, None if warm_start else SystemMetrics()),
        MirrorObserver(mirrors),
        RunnerObserver(context),
        pruning,
    ]
    fabric = context.fabric or distributed.single(torch.device(settings.device))
    try:
        context.begin()
        obtained = trained_codec.obtain(
            run, settings.directory, fabric=fabric, observers=observers, run_id=run_id, threads=settings.cores
        )
        journal.finish()
    except Interrupted:
        if journal.error is not None and journal.error.gone:
            raise journal.error from None
        if pruning.reason and not context.stopping():
            journal.finish()
            raise Pruned(pruning.reason) from None
        raise
    except (TrackingError, CheckpointError, OSError):  # the metrics are sent by the next sitting
        raise
    except Exception:
        with suppress(Exception):  # the error that ended the training is the one to tell
            journal.finish()
        raise
    finally:
        journal.close()
    trained = obtained[1]
    recorded = {
        Tag.PRECISION: trained.precision,
        Tag.DEVICE: trained.device,
        Tag.STARTING_WEIGHTS: trained.starting_weights,
    }
    if known := {tag: value for tag, value in recorded.items() if value}:
        context.store.set_tags(run_id, known)
    return obtained


def _assess(
    run: Run, context: Context, run_id: str, model_id: str, obtained: Obtained
) -> Mapping[str, float]:
    """Score the trained codec on the test split, and log values and files; the values."""
    whole, trained, shards = obtained
    codec = whole if run.stages is None else whole.prefix(run.stages)
    test_split, evaluate = _test_split(run, shards), run.evaluate
    started = time.monotonic()
    reconstructions = test_set.reconstruct(codec, test_split, context.checking("reconstructing"))
    scores, values = test_set.quality(
        reconstructions,
        run.sample_rate,
        evaluate.metrics,
        context.checking("scoring"),
        context.settings.directory / REFERENCES,
        workers=context.scorers,
    )
    values |= {
        **bitrates.of_codec(codec, reconstructions.usage),
        **coded_rates.of_test_set(codec.quantizer, reconstructions.factors, codec.frame_rate),
        **test_set.use(reconstructions.usage, reconstructions.spread),
        **test_set.cost(codec, reconstructions),
        "cost/train_seconds": trained.seconds,
        "cost/audio_seconds_trained": trained.audio_seconds,
        "train/skipped_batches": float(trained.skipped),
    }
    if codec.quantizer.streams:
        values["eval/round_trip_exact"] = reconstructions.exact / len(reconstructions.audio)
    if evaluate.bit_exact == "bf16":
        values |= test_set.in_bf16(codec, test_split, context.checking("coding in bf16"))
    if evaluate.token_model:
        values |= token_model.measure(
            codec,
            shards.training(),
            reconstructions.factors,
            steps=evaluate.token_model,
            seed=run.seed,
            check=context.checking("modelling tokens"),
        )
    if evaluate.robustness is not None:
        check = context.checking("disturbing")
        asked = evaluate.robustness
        values |= robustness.measure(
            codec, test_split, asked, evaluate.metrics, check, workers=context.scorers
        )
    values["cost/evaluate_seconds"] = time.monotonic() - started
    context.tell("logging")
    with artifacts.logged(context.store, run_id) as folder:
        artifacts.write_scores(folder, scores, run.resolved())
        artifacts.write_codes(
            folder,
            reconstructions.usage,
            reconstructions.histograms,
            reconstructions.latents,
            reconstructions.slices,
        )
        artifacts.write_audio(folder, reconstructions.audio, evaluate.audio_examples, run.sample_rate)
    if run.train.decay_at:
        budgets = _earlier_budgets(run, context, whole, test_split)
        budgets[trained.steps] = _at_a_budget(values, trained.seconds)
        context.store.log_points(run_id, _by_metric(budgets))
    context.store.log_values(run_id, values, model_id=model_id)
    place = f"{context.store.experiment_id}/{context.settings.parent_id}"
    context.store.set_tags(run_id, {descriptions.NOTE: descriptions.of_run(run, values, place)})
    return values


def _test_split(run: Run, shards: "Shards") -> "Split":
    """The test clips of what `run` is scored on; shards: of the corpus that it was trained on."""
    other = run.test_corpus
    if other is not None:
        shards = data.unchanged(other.spec, other.content_hash, sample_rate=run.sample_rate)
    return shards.split("test")


def _earlier_budgets(
    run: Run, context: Context, codec: "Codec", test_split: "Split"
) -> dict[int, dict[str, float]]:
    """Means of the metrics, and seconds of training, at each budget of `train.decay_at` but the last."""
    decayed = DecayedWeights(context.settings.directory / run.training_hash)
    scored = {}
    for budget in run.train.decay_at[:-1]:
        try:
            seconds = decayed.load(budget, codec)
        except (DamagedFile, OSError) as error:
            context.warn(f"the weights at {budget} steps cannot be scored: {error}")
            continue
        part = codec if run.stages is None else codec.prefix(run.stages)
        made = test_set.reconstruct(part, test_split, context.checking(f"reconstructing at {budget} steps"))
        _, values = test_set.quality(
            made,
            run.sample_rate,
            run.evaluate.metrics,
            context.checking(f"scoring at {budget} steps"),
            context.settings.directory / REFERENCES,
            workers=context.scorers,
        )
        scored[budget] = _at_a_budget(values, seconds)
    return scored


def _at_a_budget(values: Mapping[str, float], seconds: float) -> dict[str, float]:
    """Means of the metrics among `eval/...`, and the seconds of training."""
    means = {key: value for key, value in values.items() if f"{key}_asked" in values}
    return {key.removeprefix("eval/"): value for key, value in means.items()} | {"train_seconds": seconds}


def _by_metric(budgets: Mapping[int, Mapping[str, float]]) -> dict[str, dict[int, float]]:
    """`budget/...` by metric and step."""
    points: dict[str, dict[int, float]] = {}
    for budget, values in sorted(budgets.items()):
        for name, value in values.items():
            points.setdefault(f"budget/{name}", {})[budget] = value
    return points
