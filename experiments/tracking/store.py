"""The tracking store: writing to MLflow so that nothing is lost or logged twice."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from experiments.common.flat_keys import flatten
from experiments.tracking import places
from experiments.tracking.addresses import sqlite_path
from experiments.tracking.addresses import store_uri as store_uri
from experiments.tracking.client import PAGE, connect, pages
from experiments.tracking.descriptions import NOTE
from experiments.tracking.errors import DEFAULT_STORE as DEFAULT_STORE
from experiments.tracking.errors import TrackingError as TrackingError
from experiments.tracking.errors import explained as explained
from experiments.tracking.errors import shown
from experiments.tracking.schema import (
    DIVERGED,
    FAILED,
    FINISHED,
    KIND_RUN,
    KIND_STUDY,
    PARENT_TAG,
    PRUNED,
    TAG,
    Tag,
    deleted_study,
    newest,
    short,
    status_of,
    superseded,
)
from experiments.tracking.sqlite_file import gone

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Experiment
    from mlflow.entities import Run as MlflowRun

BATCH = 900  # metrics a request; MLflow takes at most 1000
_FEW = 10  # runs that are looked for one by one rather than in a list of all of the study

PATIENCE = 300.0  # seconds for which a store that was there is waited for
_LONGEST_PAUSE = 5.0

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")

_log = logging.getLogger("codecbench.tracking")


def patience() -> float:
    """Seconds for which a store that went away is waited for: $CODECBENCH_TRACKING_PATIENCE, else 300."""
    given = os.environ.get("CODECBENCH_TRACKING_PATIENCE", "")
    try:
        seconds = float(given) if given else PATIENCE
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise TrackingError(
            f"CODECBENCH_TRACKING_PATIENCE is {given!r}; give it a number of seconds, such as 300"
        )
    return seconds


def _patient(
    method: Callable[Concatenate[Store, Parameters], Answer],
) -> Callable[Concatenate[Store, Parameters], Answer]:
    """Let a method of a store begin again while the store is away. All of it may be done twice."""

    @wraps(method)
    def asked(self: Store, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        return self.patiently(lambda: method(self, *args, **kwargs))

    return asked


class Store:
    """One experiment, that is one study, of an MLflow store.

    A store that has answered once and goes away is waited for, `patience` seconds in all, unless `give_up`
    says not to; then TrackingError is raised, at once from then on, until it answers again. wait: the store
    is there already: it is not made, and the first contact waits, too. A file that was deleted is not waited
    for.
    """

    def __init__(
        self,
        uri: str,
        study: str,
        question: str = "",
        *,
        wait: bool = False,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.uri, self.study = uri, study
        self.give_up = give_up
        self.patience = patience() if wait else 0.0
        self._waited_out = False
        self._path = sqlite_path(uri)
        self._identity: tuple[int, int] | None = None  # of the file
        self.client = self.patiently(lambda: connect(uri, make=not wait))
        if (path := self._path) is not None:
            self._identity = _identity(path)
            self.patiently(lambda: places.follow(path))
        self.experiment_id = self.patiently(lambda: self._experiment(question))
        self.patience = patience()

    def patiently(self, action: Callable[[], Answer]) -> Answer:
        """The result of `action`, which is begun again while the store is away."""
        patience = 0.0 if self._waited_out else self.patience
        deadline, pause, warned = time.monotonic() + patience, 0.5, False
        while True:
            try:
                with self.explained():
                    answer = action()
                self._waited_out = False
                return answer
            except TrackingError as error:
                if not error.away or self.give_up():
                    raise
                if time.monotonic() >= deadline:
                    self._waited_out = True
                    raise
                if not warned:
                    _log.warning("waiting up to %.0f s: %s", self.patience, error)
                    warned = True
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what goes wrong with the store into a TrackingError, which says so when its file is gone."""
        try:
            with explained(self.uri, training=True):
                yield
        except TrackingError as error:
            if self._identity is not None and self._path and _identity(self._path) != self._identity:
                raise gone(self._path) from error
            raise

    def _experiment(self, question: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.study)
        if found is None:
            tags = {"mlflow.experimentKind": "custom_model_development"}  # the UI's view of training runs
            if question:
                tags[NOTE] = question
            try:
                return str(self.client.create_experiment(self.study, tags=tags))
            except MlflowException:  # another process was first
                found = self.client.get_experiment_by_name(self.study)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise TrackingError(deleted_study(self.study, str(found.experiment_id), shown(self.uri)))
        return str(found.experiment_id)

    def search(self, **tags: str) -> list[MlflowRun]:
        """Runs of the study with these `codecbench.` tags, oldest first."""
        return self._search([self.experiment_id], tags)

    def search_everywhere(self, **tags: str) -> list[MlflowRun]:
        """Runs of every study with these `codecbench.` tags, oldest first."""
        return self._search([str(one.experiment_id) for one in self.experiments()], tags)

    @_patient
    def _search(self, experiment_ids: list[str], tags: Mapping[str, str]) -> list[MlflowRun]:
        conditions = [f"tags.`{TAG}{name}` = '{value}'" for name, value in tags.items()]
        return pages(
            lambda token: self.client.search_runs(
                experiment_ids,
                " and ".join(conditions),
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
        )

    def current(self, run_hashes: Collection[str], kind: str = KIND_RUN) -> dict[str, MlflowRun]:
        """The run of each identity that there is one of, in this study or any other: the newest that
        finished, otherwise the newest. Superseded ones do not count."""
        everywhere = [str(one.experiment_id) for one in self.experiments()]
        found: dict[str, MlflowRun] = {}
        if len(run_hashes) > _FEW:
            own = self.search(kind=kind)
            found = newest(run for run in own if run.data.tags.get(Tag.RUN_HASH) in run_hashes)
        for run_hash in run_hashes:
            if run_hash not in found or status_of(found[run_hash])[0] != FINISHED:
                found |= newest(self._search(everywhere, {"kind": kind, "run_hash": run_hash}))
        return found

    def statuses(self, run_hashes: Collection[str], kind: str = KIND_RUN) -> dict[str, tuple[str, str]]:
        """(status, reason) of the `current` run of each identity that there is one of."""
        return {key: status_of(run) for key, run in self.current(run_hashes, kind).items()}

    @_patient
    def experiments(self) -> list[Experiment]:
        """Every study of the store, oldest first."""
        return pages(
            lambda token: self.client.search_experiments(
                max_results=PAGE, order_by=["experiment_id ASC"], page_token=token
            )
        )

    @_patient
    def experiment_tags(self) -> dict[str, str]:
        """Tags of the study's experiment."""
        return dict(self.client.get_experiment(self.experiment_id).tags)

    @_patient
    def tag_experiment(self, key: str, value: str) -> None:
        """Set a tag of the study's experiment."""
        self.client.set_experiment_tag(self.experiment_id, key, value)

    @_patient
    def untag_experiment(self, experiment_id: str, key: str) -> None:
        """Remove a tag of any study's experiment, if it is there."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.delete_experiment_tag(experiment_id, key)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise

    @_patient
    def start(self, name: str, tags: Mapping[str, str], *, match: Mapping[str, str]) -> str:
        """The id of the run whose `codecbench.` tags are `match`, going on if it is there, else a new one.

        A run that another study began stays in that study, under its label.
        """
        found = [run for run in self.search(**match) if not superseded(run)]
        if not found and match["kind"] != KIND_STUDY:
            found = [run for run in self.search_everywhere(**match) if not superseded(run)]
        if found:
            run_id = str(found[-1].info.run_id)
            self.client.update_run(run_id, status="RUNNING")
            if str(found[-1].info.experiment_id) != self.experiment_id:
                tags = {key: tags[key] for key in tags if key not in (PARENT_TAG, Tag.LABEL, Tag.SERIES)}
            self.set_tags(run_id, tags)
            return run_id
        new = self.client.create_run(
            self.experiment_id, run_name=name, tags={**tags, **{TAG + k: v for k, v in match.items()}}
        )
        return str(new.info.run_id)

    @_patient
    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @_patient
    def set_status(self, run_id: str, status: str, reason: str = "") -> None:
        """Set a run's status; `finished`, `failed`, `diverged` and `pruned` end it."""
        ended = {FINISHED: "FINISHED", FAILED: "FAILED", DIVERGED: "FAILED", PRUNED: "KILLED"}
        if status in ended:
            self.client.set_terminated(run_id, ended[status])
        # The tag comes last: a run that is killed in between is taken up again, and ended then.
        self.set_tags(run_id, {Tag.REASON: reason, Tag.STATUS: status})

    @_patient
    def pause(self, run_id: str) -> None:
        """Show in MLflow that nobody works on a run, which goes on later."""
        self.client.set_terminated(run_id, "KILLED")

    @_patient
    def log_params(self, run_id: str, config: Mapping[str, Any]) -> None:
        """Log a nested configuration with dotted names. What the run has already is left alone: MLflow allows
        no second value, and the same study may have its corpus elsewhere."""
        from mlflow.entities import Param

        there = self.client.get_run(run_id).data.params
        params = [Param(key, short(value)) for key, value in flatten(config).items() if key not in there]
        for start in range(0, len(params), 100):
            self.client.log_batch(run_id, params=params[start : start + 100])

    @_patient
    def log_values(self, run_id: str, values: Mapping[str, float], model_id: str | None = None) -> None:
        """Log final values, of the model `model_id` too; those that the run has already are left alone.

        All are at step 0: MLflow's UI draws bars that compare runs of metrics that have no other.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        there = self.client.get_run(run_id).data.metrics
        new = [Metric(key, value, now, 0, model_id) for key, value in values.items() if key not in there]
        for start in range(0, len(new), BATCH):
            self.client.log_batch(run_id, metrics=new[start : start + BATCH])

    @_patient
    def summarise(self, run_id: str, values: Mapping[str, float], description: str) -> None:
        """Give a study its description, and its values as they are now."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        there = self.client.get_run(run_id).data.metrics
        new = [Metric(key, value, now, 0) for key, value in values.items() if there.get(key) != value]
        for start in range(0, len(new), BATCH):
            self.client.log_batch(run_id, metrics=new[start : start + BATCH])
        self.client.set_tag(run_id, NOTE, description)

    @_patient
    def log_points(self, run_id: str, points: Mapping[str, Mapping[int, float]]) -> None:
        """Log values by step, by metric; those that the run has already are left alone."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for key, values in points.items():
            there = {point.step for point in self.client.get_metric_history(run_id, key)}
            new = [Metric(key, value, now, step) for step, value in values.items() if step not in there]
            if new:
                self.client.log_batch(run_id, metrics=new)

    @_patient
    def history(self, run_id: str, key: str) -> dict[int, float]:
        """The last value of a metric at each step that it was logged at."""
        points = self.client.get_metric_history(run_id, key)
        return {int(point.step): float(point.value) for point in points}

    @_patient
    def log_datasets(self, run_id: str, corpora: Mapping[str, tuple[str, str, str]]) -> None:
        """Log corpora as the run's inputs: name, hash of the content and source, by what each is used for."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if self.client.get_run(run_id).inputs.dataset_inputs:
            return
        self._log_inputs(
            run_id,
            [
                DatasetInput(
                    Dataset(name, digest[:36], "codecbench", json.dumps({"corpus": source})),
                    [InputTag("mlflow.data.context", use)],
                )
                for use, (name, digest, source) in corpora.items()
            ],
        )

    def _log_inputs(self, run_id: str, datasets: list[DatasetInput]) -> None:
        """Once more where another process adds the same dataset just now: MLflow refuses the second."""
        from mlflow.exceptions import MlflowException

        for attempt in range(5):
            try:
                self.client.log_inputs(run_id, datasets)
                return
            except MlflowException:
                if attempt == 4:
                    raise
                time.sleep(0.2 * (attempt + 1))

    @_patient
    def log_files(self, run_id: str, directory: Path, artifact_path: str | None = None) -> None:
        """Log all files below a directory as artifacts."""
        self.client.log_artifacts(run_id, str(directory), artifact_path)

    @_patient
    def log_file(self, run_id: str, path: Path, folder: str) -> None:
        """Log one file into a folder of the run's artifacts; "" is the topmost."""
        self.client.log_artifact(run_id, str(path), folder or None)

    @_patient
    def files(self, run_id: str, artifact_path: str) -> set[str]:
        """Paths of what is in a folder of the run's artifacts."""
        return {entry.path for entry in self.client.list_artifacts(run_id, artifact_path or None)}

    @_patient
    def fetch_file(self, run_id: str, path: str, folder: Path) -> Path:
        """A copy in `folder` of one artifact."""
        return Path(self.client.download_artifacts(run_id, path, str(folder)))


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
