"""The tracked run of a job: made or taken up in the tracking store."""

from typing import TYPE_CHECKING

from experiments.studies.runs import Run

if TYPE_CHECKING:
    from experiments.tracking.store import Store
from experiments import metrics
from experiments.execution.jobs import Job
from experiments.tracking.schema import PARENT_TAG, RUNNING, TAG, provenance


def open_run(store: "Store", job: Job, parent_id: str) -> str:
    """The MLflow run of `job`: the one it had, or a new one below `parent_id`."""
    run = job.run
    tags = {
        PARENT_TAG: parent_id,
        f"{TAG}status": RUNNING,
        f"{TAG}reason": "",
        f"{TAG}protocol": metrics.PROTOCOL,
        f"{TAG}quantizer": run.quantizer,
        f"{TAG}label": run.label,
        f"{TAG}series": run.series,
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
