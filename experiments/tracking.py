"""The tracking store: names of its schema, and writing to MLflow so that nothing is lost or logged twice."""

import json
import logging
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient as Client
    from mlflow.entities import DatasetInput
    from mlflow.entities import Run as MlflowRun

DEFAULT_STORE = "sqlite:///mlflow.db"
TAG = "codecbench."
PARENT_TAG = "mlflow.parentRunId"

KIND_STUDY, KIND_RUN = "study", "run"
RUNNING, FINISHED, FAILED, DIVERGED = "running", "finished", "failed", "diverged"

_BATCH = 900  # metrics a request; MLflow takes at most 1000
_PAGE = 1000
_PARAM_LENGTH = 6000

_log = logging.getLogger("codecbench.tracking")


class TrackingError(ValueError):
    """The tracking store cannot be used; the message says why and what to do."""


def store_uri(given: str | None = None) -> str:
    """`given`, else $MLFLOW_TRACKING_URI, else the default store in the working directory."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        first_line = str(error).strip().splitlines()[0]
        raise TrackingError(
            f"the tracking store {uri} does not answer: {first_line}. Remedy: start the server, or set "
            f"MLFLOW_TRACKING_URI to a store such as {DEFAULT_STORE}; nothing that was trained is lost."
        ) from error


class Store:
    """One experiment, that is one study, of an MLflow store."""

    def __init__(self, uri: str, study: str, question: str = "") -> None:
        quiet_mlflow()
        from mlflow import MlflowClient

        self.uri, self.study = uri, study
        with _explained(uri):
            self.client: Client = MlflowClient(tracking_uri=uri)
            self.experiment_id = self._experiment(question)

    def _experiment(self, question: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.study)
        if found is None:
            tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI's view of training runs
            if question:
                tags["mlflow.note.content"] = question
            try:
                return str(self.client.create_experiment(self.study, tags=tags))
            except MlflowException:  # another process was first
                found = self.client.get_experiment_by_name(self.study)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"the experiment {self.study!r} is deleted in {self.uri}; restore it with "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or rename the study"
            )
        return str(found.experiment_id)

    def search(self, **tags: str) -> "list[MlflowRun]":
        """Runs of the study with these `codecbench.` tags, oldest first."""
        conditions = [f"tags.`{TAG}{name}` = '{value}'" for name, value in tags.items()]
        found: list[MlflowRun] = []
        token = None
        with _explained(self.uri):
            while True:
                page = self.client.search_runs(
                    [self.experiment_id],
                    " and ".join(conditions),
                    max_results=_PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                found += page
                token = page.token
                if not token:
                    return found

    def statuses(self) -> dict[str, tuple[str, str]]:
        """Run hash to (status, reason) of every run of the study; a finished one wins over others."""
        known: dict[str, tuple[str, str]] = {}
        for run in self.search(kind=KIND_RUN):
            tags = run.data.tags
            run_hash = tags.get(f"{TAG}run_hash", "")
            if known.get(run_hash, ("", ""))[0] != FINISHED:
                known[run_hash] = (tags.get(f"{TAG}status", ""), tags.get(f"{TAG}reason", ""))
        return known

    def start(self, name: str, tags: Mapping[str, str], *, match: Mapping[str, str]) -> str:
        """The id of the run whose `codecbench.` tags are `match`, going on if it is there, else a new one."""
        found = self.search(**match)
        with _explained(self.uri):
            if found:
                run_id = str(found[-1].info.run_id)
                self.client.update_run(run_id, status="RUNNING")
                for key, value in tags.items():
                    self.client.set_tag(run_id, key, value)
                return run_id
            new = self.client.create_run(
                self.experiment_id, run_name=name, tags={**tags, **{TAG + k: v for k, v in match.items()}}
            )
            return str(new.info.run_id)

    def set_status(self, run_id: str, status: str, reason: str = "") -> None:
        """Set a run's status; `finished`, `failed` and `diverged` end it."""
        ended = {FINISHED: "FINISHED", FAILED: "FAILED", DIVERGED: "FAILED"}
        with _explained(self.uri):
            self.client.set_tag(run_id, f"{TAG}reason", reason)
            self.client.set_tag(run_id, f"{TAG}status", status)
            if status in ended:
                self.client.set_terminated(run_id, ended[status])

    def pause(self, run_id: str) -> None:
        """Show in MLflow that nobody works on a run, which goes on later."""
        with _explained(self.uri):
            self.client.set_terminated(run_id, "KILLED")

    def log_params(self, run_id: str, config: Mapping[str, Any]) -> None:
        """Log a nested configuration with dotted names."""
        from mlflow.entities import Param

        params = [Param(key, value[:_PARAM_LENGTH]) for key, value in flatten(config).items()]
        with _explained(self.uri):
            for start in range(0, len(params), 100):
                self.client.log_batch(run_id, params=params[start : start + 100])

    def log_values(self, run_id: str, values: Mapping[str, float], step: int = 0) -> None:
        """Log final values; those that the run has already are left alone."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with _explained(self.uri):
            there = self.client.get_run(run_id).data.metrics
            new = [Metric(key, value, now, step) for key, value in values.items() if key not in there]
            for start in range(0, len(new), _BATCH):
                self.client.log_batch(run_id, metrics=new[start : start + _BATCH])

    def log_dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Log the corpus as the run's input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name, digest[:36], "codecbench", json.dumps({"corpus": source}))
        with _explained(self.uri):
            if not self.client.get_run(run_id).inputs.dataset_inputs:
                tags = [InputTag("mlflow.data.context", "train and test")]
                self._log_input(run_id, DatasetInput(dataset, tags))

    def _log_input(self, run_id: str, dataset: "DatasetInput") -> None:
        """Once more where another process adds the same dataset just now: MLflow refuses the second."""
        from mlflow.exceptions import MlflowException

        for attempt in range(5):
            try:
                self.client.log_inputs(run_id, [dataset])
                return
            except MlflowException:
                if attempt == 4:
                    raise
                time.sleep(0.2 * (attempt + 1))

    def log_files(self, run_id: str, directory: Path, artifact_path: str | None = None) -> None:
        """Log all files below a directory as artifacts."""
        with _explained(self.uri):
            self.client.log_artifacts(run_id, str(directory), artifact_path)


class MetricsJournal:
    """Metrics by step on disk, mirrored to MLflow.

    The file is written before each saved training state and holds what MLflow has not taken yet, so that
    neither a kill nor a tracking server that goes away loses a value; on return each is sent once.
    """

    def __init__(self, path: Path, store: Store, run_id: str, prefix: str = "") -> None:
        self.path, self.store, self.run_id, self.prefix = path, store, run_id, prefix
        self._new: list[dict[str, Any]] = []
        self._unsent: list[dict[str, Any]] = []
        self._sent: dict[str, int] = {}
        self._complained = False

    def begin(self, step: int) -> None:
        """Start at `step`: forget what lies after it, and send what an earlier sitting could not."""
        kept = [record for record in self._read() if record["step"] <= step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        with _explained(self.store.uri):
            logged = self.store.client.get_run(self.run_id).data.metrics
            for key in logged:
                if key.startswith(self.prefix):
                    history = self.store.client.get_metric_history(self.run_id, key)
                    self._sent[key] = max(point.step for point in history)
        self._unsent = kept
        self.send()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep new values in memory until the next `write`."""
        named = {self.prefix + key: value for key, value in values.items()}
        self._new.append({"step": step, "time": int(time.time() * 1000), "values": named})

    def write(self) -> None:
        """Put the new values on disk, then send them."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in self._new)
            file.flush()
            os.fsync(file.fileno())
        self._unsent += self._new
        self._new = []
        self.send()

    def send(self) -> bool:
        """Send what MLflow lacks. False, with one warning, when it does not answer."""
        from mlflow.entities import Metric

        metrics = [
            Metric(key, value, record["time"], record["step"])
            for record in self._unsent
            for key, value in record["values"].items()
            if record["step"] > self._sent.get(key, -1)
        ]
        try:
            for start in range(0, len(metrics), _BATCH):
                with _explained(self.store.uri):
                    self.store.client.log_batch(self.run_id, metrics=metrics[start : start + _BATCH])
                for metric in metrics[start : start + _BATCH]:
                    self._sent[metric.key] = max(metric.step, self._sent.get(metric.key, -1))
        except TrackingError as error:
            if not self._complained:
                _log.warning("metrics are kept in %s until the tracking store answers (%s)", self.path, error)
                self._complained = True
            return False
        self._unsent = []
        self._complained = False
        return True

    def finish(self, patience: float = 300.0) -> None:
        """Send the rest, waiting up to `patience` seconds for the store. Raises TrackingError."""
        self.write()
        deadline, pause = time.monotonic() + patience, 1.0
        while not self.send():
            if time.monotonic() > deadline:
                raise TrackingError(
                    f"the tracking store {self.store.uri} has not answered for {patience:.0f} s; the metrics "
                    f"are in {self.path}. Start the same command again when it is back."
                )
            time.sleep(pause)
            pause = min(2 * pause, 30.0)

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        records = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:  # a line that a kill cut short; its step was not saved either
                break
        return records


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys joined by dots, values as text."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


@cache
def provenance() -> dict[str, str]:
    """Tags that say which code made a run."""
    tags = {f"{TAG}version": version("codecbench"), f"{TAG}torch": version("torch")}
    here = Path(__file__).parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit:
        tags[f"{TAG}git_commit"] = commit
        tags[f"{TAG}git_dirty"] = str(
            bool(_git(here, "status", "--porcelain", "--untracked-files=no"))
        ).lower()
    return tags


def quiet_mlflow() -> None:
    """Keep MLflow from chatting on the terminal and from phoning home, unless the user asked for it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _git(directory: Path, *arguments: str) -> str:
    command: Sequence[str] = ("git", "-C", str(directory), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
