"""What a tracking store knows of runs, of all studies, read in a fraction of a second where it is a file."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from experiments.tracking.schema import KIND_RUN, TAG
from experiments.tracking.store import TrackingError, quiet_mlflow

SQLITE = "sqlite:///"
_KINDS = (  # table, and which keys of it are wanted
    ("tags", "key LIKE 'codecbench.%'"),
    ("params", "1"),
    ("latest_metrics", "key LIKE 'cost/%' OR key LIKE 'eval/%_asked'"),
)


@dataclass(frozen=True)
class KnownRun:
    """One run: its tags without `codecbench.`, its parameters as text, its costs and counts."""

    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Identity of the run."""
        return self.tags.get("run_hash", "")

    @property
    def status(self) -> str:
        """`running`, `finished`, `failed` or `diverged`."""
        return self.tags.get("status", "")


def read(uri: str) -> list[KnownRun]:
    """All runs in the store, of every study; none where there is no store yet. Raises TrackingError."""
    if uri.startswith(SQLITE):
        path = Path(uri.removeprefix(SQLITE))
        if not path.exists():
            return []
        try:
            return _from_file(path)
        except sqlite3.Error:  # another version of MLflow may have other tables
            pass
    return _from_client(uri)


def _from_file(path: Path) -> list[KnownRun]:
    """MLflow's own tables: its client takes seconds to import."""
    found: dict[str, KnownRun] = {}
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as store:
        wanted = (
            "SELECT run_uuid FROM tags WHERE key = ? AND value = ? AND run_uuid IN "
            "(SELECT r.run_uuid FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
            "WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active')"
        )
        for (run_id,) in store.execute(f"{wanted} ORDER BY run_uuid", (f"{TAG}kind", KIND_RUN)):
            found[run_id] = KnownRun()
        for table, condition in _KINDS:
            for run_id, key, value in store.execute(
                f"SELECT run_uuid, key, value FROM {table} WHERE {condition}"
            ):
                if run_id in found:
                    _add(found[run_id], table, key, value)
    return list(found.values())


def _from_client(uri: str) -> list[KnownRun]:
    quiet_mlflow()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    found: list[KnownRun] = []
    try:
        client = MlflowClient(tracking_uri=uri)
        experiments = [each.experiment_id for each in client.search_experiments()]
        token: str | None = None
        while experiments:
            page = client.search_runs(experiments, f"tags.`{TAG}kind` = '{KIND_RUN}'", page_token=token)
            for run in page:
                found.append(KnownRun(params=dict(run.data.params)))
                for key, value in run.data.tags.items():
                    if key.startswith(TAG):
                        _add(found[-1], "tags", key, value)
                for key, number in run.data.metrics.items():
                    if key.startswith("cost/") or (key.startswith("eval/") and key.endswith("_asked")):
                        _add(found[-1], "latest_metrics", key, number)
            token = page.token
            if not token:
                break
    except MlflowException as error:
        reason = str(error).strip().splitlines()[0]
        raise TrackingError(f"the tracking store {uri} does not answer: {reason}") from error
    return found


def _add(run: KnownRun, table: str, key: str, value: str | float) -> None:
    if table == "tags":
        run.tags[key.removeprefix(TAG)] = str(value)
    elif table == "params":
        run.params[key] = str(value)
    else:
        run.metrics[key] = float(value)
