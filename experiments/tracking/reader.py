"""Read a tracking store: an SQLite file directly, in milliseconds, anything else through MLflow's client.

Both give the same values in the same order. The tables that are read have been the same for years, so that
the file of an older or a newer MLflow, which its client refuses, is read as well.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.tracking.addresses import check, sqlite_path
from experiments.tracking.client import PAGE, connect, pages
from experiments.tracking.errors import TrackingError, explained
from experiments.tracking.schema import TAG
from experiments.tracking.sqlite_file import opened, tables
from experiments.tracking.stored import ANY, Reader, RunData, RunInfo, StoredExperiment, StoredRun, Value

# Columns that are read, by table.
_COLUMNS = {
    "experiments": {"experiment_id", "name", "lifecycle_stage", "artifact_location"},
    "runs": {
        "run_uuid",
        "experiment_id",
        "name",
        "status",
        "start_time",
        "end_time",
        "artifact_uri",
        "lifecycle_stage",
    },
    "tags": {"run_uuid", "key", "value"},
    "params": {"run_uuid", "key", "value"},
    "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
    "metrics": {"run_uuid", "key", "value", "is_nan", "step", "timestamp"},
}
_GO = "Remedy: go to the folder of the study, or give its store by --tracking-uri or MLFLOW_TRACKING_URI"
_AT_ONCE = 500  # values in a statement; old SQLite takes 999
_FEW = 20  # values of a tag that a server is asked for one by one


def reader(uri: str) -> Reader:
    """The quickest way to read the store at `uri`. Raises TrackingError, where there is no store, too."""
    check(uri)
    path = sqlite_path(uri)
    if path is None:
        return ClientReader(uri)
    if not path.exists():  # MLflow would make an empty store
        raise TrackingError(f"no tracking store at {path}. {_GO}")
    with explained(uri):
        return FileReader(uri, path) if _fits(path) else ClientReader(uri)


def _fits(path: Path) -> bool:
    """Whether a file has the columns that are read."""
    with opened(path) as connection:
        if not tables(connection):
            raise TrackingError(f"no tracking store at {path}, which is empty. {_GO}")
        return all(
            wanted <= {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for table, wanted in _COLUMNS.items()
        )


@dataclass(frozen=True)
class FileReader:
    """MLflow's tables in an SQLite file. Holds no connection, so that processes may share it."""

    uri: str
    path: Path

    def experiments(self) -> list[StoredExperiment]:
        return self._experiments("lifecycle_stage = 'active'", ())

    def experiment(self, name: str) -> StoredExperiment | None:
        return next(iter(self._experiments("name = ?", (name,))), None)

    def _experiments(self, condition: str, values: tuple[str, ...]) -> list[StoredExperiment]:
        columns = "experiment_id, name, lifecycle_stage, artifact_location"
        select = f"SELECT {columns} FROM experiments WHERE {condition} ORDER BY experiment_id"
        rows = self._rows(select, values)
        return [StoredExperiment(str(key), name, stage, place or "") for key, name, stage, place in rows]

    def runs(
        self,
        experiment_ids: Sequence[str],
        tags: Mapping[str, Collection[str]] | None = None,
        *,
        metrics: Sequence[str] = (ANY,),
    ) -> list[StoredRun]:
        wanted = {str(one) for one in experiment_ids}
        columns = "run_uuid, experiment_id, name, status, start_time, end_time, artifact_uri"
        found: dict[str, StoredRun] = {}
        with explained(self.uri), opened(self.path) as connection:
            active = "lifecycle_stage = 'active' ORDER BY start_time, run_uuid"
            chosen = self._with_tags(connection, tags or {})
            for row in connection.execute(f"SELECT {columns} FROM runs WHERE {active}"):
                key, experiment, name, status, start, end, place = row
                if str(experiment) in wanted and (chosen is None or key in chosen):
                    info = RunInfo(key, str(experiment), name or "", status, start, end, place or "")
                    found[key] = StoredRun(info, RunData())
            for keys in _parts(found):
                marks = ", ".join("?" * len(keys))
                for table in ("tags", "params"):
                    for run, key, value in connection.execute(
                        f"SELECT run_uuid, key, value FROM {table} WHERE run_uuid IN ({marks})", keys
                    ):
                        getattr(found[run].data, table)[key] = value
                last = f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN ({marks})"
                like = " OR ".join("key LIKE ?" for _ in metrics) or "0"
                for run, key, value, is_nan in connection.execute(f"{last} AND ({like})", [*keys, *metrics]):
                    found[run].data.metrics[key] = math.nan if is_nan else float(value)
        return list(found.values())

    def _with_tags(
        self, connection: sqlite3.Connection, tags: Mapping[str, Collection[str]]
    ) -> set[str] | None:
        """Runs that have one of the values of each tag; None where no tag is asked for."""
        chosen: set[str] | None = None
        for name, values in tags.items():
            having: set[str] = set()
            for some in _parts(values):
                marks = ", ".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT run_uuid FROM tags WHERE key = ? AND value IN ({marks})", (f"{TAG}{name}", *some)
                )
                having |= {run for (run,) in rows}
            chosen = having if chosen is None else chosen & having
        return chosen

    def histories(self, run_ids: Sequence[str], names: Collection[str]) -> Iterator[Value]:
        wanted = set(names)
        for run in run_ids:
            rows = self._rows(
                "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? "
                "ORDER BY key, step, timestamp, value",
                (run,),
            )
            for key, step, value, is_nan in rows:
                if key in wanted:
                    yield run, key, int(step), math.nan if is_nan else float(value)

    def _rows(self, statement: str, values: tuple[str, ...]) -> list[Any]:
        with explained(self.uri), opened(self.path) as connection:
            return connection.execute(statement, values).fetchall()


class ClientReader:
    """A store that MLflow's client reads: a server, or a database."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client = connect(uri)

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In another process, with a connection of its own."""
        self.__init__(state["uri"])  # type: ignore[misc]

    def experiments(self) -> list[StoredExperiment]:
        with explained(self.uri):
            found = pages(
                lambda token: self._client.search_experiments(
                    max_results=PAGE, order_by=["experiment_id ASC"], page_token=token
                )
            )
            return [_experiment(one) for one in found]

    def experiment(self, name: str) -> StoredExperiment | None:
        with explained(self.uri):
            one = self._client.get_experiment_by_name(name)
            return None if one is None else _experiment(one)

    def runs(
        self,
        experiment_ids: Sequence[str],
        tags: Mapping[str, Collection[str]] | None = None,
        *,
        metrics: Sequence[str] = (ANY,),
    ) -> list[StoredRun]:
        asked = {name: sorted(values) for name, values in (tags or {}).items()}
        if not experiment_ids or not all(asked.values()):
            return []
        plain = {name: values for name, values in asked.items() if not set("'\"`") & set("".join(values))}
        condition = " and ".join(
            f"tags.`{TAG}{name}` = '{values[0]}'" for name, values in plain.items() if len(values) == 1
        )
        several = min((name for name in plain if 1 < len(plain[name]) <= _FEW), default=None)
        found: dict[str, StoredRun] = {}
        for value in plain[several] if several else [""]:
            one = f"tags.`{TAG}{several}` = '{value}'" if several else ""
            both = " and ".join(filter(None, (condition, one)))
            found |= {run.info.run_id: run for run in self._search(list(experiment_ids), both)}
        fitting = [
            run
            for run in found.values()
            if all(run.data.tags.get(f"{TAG}{name}") in values for name, values in asked.items())
        ]
        return sorted(fitting, key=lambda run: (run.info.start_time, run.info.run_id))

    def _search(self, experiment_ids: list[str], condition: str) -> list[StoredRun]:
        with explained(self.uri):
            found = pages(
                lambda token: self._client.search_runs(
                    experiment_ids,
                    condition,
                    max_results=PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
            )
        return [_run(run) for run in found]

    def histories(self, run_ids: Sequence[str], names: Collection[str]) -> Iterator[Value]:
        for run in run_ids:
            for name in sorted(names):
                with explained(self.uri):
                    points = self._client.get_metric_history(run, name)
                for point in sorted(points, key=lambda point: point.step):
                    yield run, name, int(point.step), float(point.value)


def _parts(values: Iterable[str]) -> Iterator[list[str]]:
    """`values` in lists that fit into a statement."""
    whole = list(values)
    for start in range(0, len(whole), _AT_ONCE):
        yield whole[start : start + _AT_ONCE]


def _experiment(one: Any) -> StoredExperiment:
    return StoredExperiment(
        str(one.experiment_id), one.name, one.lifecycle_stage, str(one.artifact_location or "")
    )


def _run(run: Any) -> StoredRun:
    info = run.info
    return StoredRun(
        RunInfo(
            str(info.run_id),
            str(info.experiment_id),
            str(info.run_name or ""),
            str(info.status),
            int(info.start_time),
            info.end_time,
            str(info.artifact_uri or ""),
        ),
        RunData(dict(run.data.tags), dict(run.data.params), dict(run.data.metrics)),
    )
