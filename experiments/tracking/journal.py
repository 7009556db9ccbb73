"""Metrics and warnings by step of a training: on disk first, then in the tracking store, which may come and
go."""

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common.atomic_files import write_text
from experiments.tracking.schema import Tag, short
from experiments.tracking.store import BATCH, Store, TrackingError

WRITE_SECONDS = 10.0  # values are on disk, and on their way, after no more than this
RETRY_SECONDS = 5.0

_log = logging.getLogger("codecbench.tracking")


class MetricsJournal:
    """Metrics and warnings by step on disk, mirrored to MLflow by a thread: the training waits for the disk
    alone.

    The file is written before each saved training state and holds what MLflow has not taken yet, so that
    neither a kill nor a tracking server that goes away loses a value; on return each is sent once.
    """

    def __init__(
        self, path: Path, store: Store, run_id: str, prefix: str = "", retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self.path, self.store, self.run_id, self.prefix = path, store, run_id, prefix
        self.retry_seconds = retry_seconds
        self._new: list[dict[str, Any]] = []
        self._unsent: list[dict[str, Any]] = []
        self._sent: dict[str, int] = {}
        self._written = time.monotonic()
        self._complained = False
        self.error: TrackingError | None = None  # of the last sending, if that failed
        self._lock = threading.Lock()  # of the lists
        self._sending = threading.Lock()  # one sends at a time
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, step: int) -> None:
        """Start at `step`: forget what lies after it, and send what an earlier sitting could not."""
        records, damaged = self._read()
        kept = [record for record in records if record["step"] <= step]
        # At once, since it may be all that there is of values which the store has not got.
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._sent = self.store.patiently(self._last_steps)
        self._unsent = kept
        if damaged:
            text = f"{damaged} lines of {self.path} were damaged and are left out; values may be missing"
            self.warn(step, "journal", text)
        self._thread = threading.Thread(target=self._mirror, name="metrics", daemon=True)
        self._thread.start()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep new values until the next `write`, which comes after some seconds at the latest."""
        self._keep(step, values={self.prefix + key: value for key, value in values.items()})

    def warn(self, step: int, name: str, text: str) -> None:
        """Keep a warning: it becomes a tag of the run, which holds the last one of this name."""
        self._keep(step, values={}, tags={f"{Tag.WARNING}{name}": short(f"step {step}: {text}")})

    def _keep(self, step: int, **what: Mapping[str, Any]) -> None:
        self._new.append({"step": step, "time": int(time.time() * 1000), **what})
        if time.monotonic() - self._written > WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Put the new values on disk, and have them sent."""
        if self._new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in self._new)
                file.flush()
                os.fsync(file.fileno())
        with self._lock:
            self._unsent += self._new
        self._new = []
        self._written = time.monotonic()
        self._wake.set()

    def send(self) -> bool:
        """Send what MLflow lacks. False, with one warning, when it does not answer."""
        from mlflow.entities import Metric, RunTag

        with self._sending:
            with self._lock:
                records = list(self._unsent)
            metrics = [
                Metric(key, value, record["time"], record["step"])
                for record in records
                for key, value in record["values"].items()
                if record["step"] > self._sent.get(key, -1)
            ]
            tags = {key: text for record in records for key, text in record.get("tags", {}).items()}
            try:
                with self.store.explained():
                    if tags:
                        self.store.client.log_batch(self.run_id, tags=[RunTag(*tag) for tag in tags.items()])
                    for start in range(0, len(metrics), BATCH):
                        self.store.client.log_batch(self.run_id, metrics=metrics[start : start + BATCH])
            except TrackingError as error:
                self.error = error
                if not self._complained:
                    _log.warning(
                        "metrics are kept in %s until the tracking store answers (%s)", self.path, error
                    )
                    self._complained = True
                return False
            for metric in metrics:
                self._sent[metric.key] = max(metric.step, self._sent.get(metric.key, -1))
            with self._lock:
                del self._unsent[: len(records)]
            self._complained, self.error = False, None
            return True

    def finish(self, patience: float | None = None) -> None:
        """Send the rest, waiting for the store up to `patience` seconds (None: the store's own).

        Raises TrackingError.
        """
        self.write()
        self.close()
        patience = self.store.patience if patience is None else patience
        deadline = time.monotonic() + patience
        while not self.send():
            if self.error is not None and not self.error.away:  # waiting does not help
                raise self.error
            if time.monotonic() >= deadline or self.store.give_up():
                raise TrackingError(
                    f"the tracking store {self.store.uri} has not answered for {patience:.0f} s; the metrics "
                    f"are in {self.path}. Start the same command again when it is back.",
                    away=True,
                )
            time.sleep(min(self.retry_seconds, max(0.0, deadline - time.monotonic())))

    def close(self) -> None:
        """End the thread; what it could not send stays on disk, for the next `begin`."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _mirror(self) -> None:
        """Send whenever there is something new; while the store is away, try again now and then."""
        while not self._closed.is_set():
            self._wake.clear()
            if self.send():
                self._wake.wait()
            else:
                self._closed.wait(self.retry_seconds)
        self.send()

    def _last_steps(self) -> dict[str, int]:
        """The last step of each metric that MLflow has."""
        logged = self.store.client.get_run(self.run_id).data.metrics
        history = {
            key: self.store.client.get_metric_history(self.run_id, key)
            for key in logged
            if key.startswith(self.prefix)
        }
        return {key: max(point.step for point in points) for key, points in history.items()}

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """Whole records of the file, and the number of damaged ones. One that a kill cut short at the end is
        neither: its step was not saved."""
        if not self.path.exists():
            return [], 0
        *lines, unfinished = self.path.read_bytes().split(b"\n")
        records = [_record(line) for line in [*lines, *([unfinished] if unfinished else [])]]
        damaged = records[: len(lines)].count(None)
        return [record for record in records if record is not None], damaged


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in one line of a journal, None where it is damaged."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    values, tags = record.get("values"), record.get("tags", {})
    numbers = isinstance(values, dict) and all(type(v) in (int, float) for v in values.values())
    texts = isinstance(tags, dict) and all(isinstance(text, str) for text in tags.values())
    return record if numbers and texts and type(record.get("time")) is int else None
