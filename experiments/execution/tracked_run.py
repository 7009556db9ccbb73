"""The tracked run of a job: made or taken up in the tracking store, under the tags that describe it."""

from collections.abc import Mapping

from experiments import metrics
from experiments.execution.jobs import Job
from experiments.studies.runs import Run
from experiments.tracking.descriptions import origin
from experiments.tracking.schema import PARENT_TAG, RUNNING, Tag, provenance
from experiments.tracking.store import Store


def run_tags(
    parent_id: str,
    *,
    study: str,
    quantizer: str,
    label: str,
    corpus: str,
    corpus_hash: str,
    reference: bool,
    synthetic: bool,
    protocol: str,
    more: Mapping[str, str],
) -> dict[str, str]:
    """Tags of a run under way, below the study `parent_id`. more: others."""
    return {
        PARENT_TAG: parent_id,
        Tag.STATUS: RUNNING,
        Tag.PROTOCOL: protocol,
        Tag.QUANTIZER: quantizer,
        Tag.LABEL: label,
        Tag.REFERENCE: str(reference).lower(),
        Tag.CORPUS: corpus,
        Tag.CORPUS_HASH: corpus_hash,
        Tag.SYNTHETIC: str(synthetic).lower(),
        **more,
        **origin(study),
        **provenance(),
    }


def open_run(store: Store, job: Job, parent_id: str) -> str:
    """The MLflow run of `job`: the one it had, or a new one below `parent_id`."""
    run = job.run
    scored = run.scored if isinstance(run, Run) else run.corpus
    seed = "" if run.seed is None else str(run.seed)
    training = {Tag.TRAINING_HASH: run.training_hash} if isinstance(run, Run) else {}
    if (start := run.warm_start()) is not None:
        training[Tag.WARM_START] = start.training_hash
    tags = run_tags(
        parent_id,
        study=store.study,
        quantizer=run.quantizer,
        label=run.label,
        corpus=scored.name,
        corpus_hash=scored.content_hash,
        reference=run.reference,
        synthetic=scored.synthetic,
        protocol=metrics.PROTOCOL,
        more={Tag.REASON: "", Tag.SEED: seed, Tag.SERIES: run.series, **training},
    )
    name = run.label if run.seed is None else f"{run.label} seed {run.seed}"
    run_id = store.start(name, tags, match={"kind": job.kind, "run_hash": job.key})
    store.log_params(run_id, run.resolved())
    used = {"train": run.corpus, "test": scored} if scored != run.corpus else {"train and test": scored}
    store.log_datasets(run_id, {use: (one.name, one.content_hash, one.spec) for use, one in used.items()})
    return run_id
