"""Studies in one file: what the tables and figures are made from, to publish or to hand on.

The file is a zip: `archive.json` with the runs, `histories.parquet` with what was logged while training, and
`artifacts/<run>/` with scores and code counts of each run. Weights are never in it.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.results.load import load
from analysis.results.study_results import Results
from experiments.common.atomic_files import replacing
from experiments.tracking.schema import PARENT_TAG, RUNNING, TAG
from experiments.tracking.store import BATCH, Store, store_uri

if TYPE_CHECKING:
    from mlflow.entities import Run

FORMAT = 1
EXTRAS = ("latents", "snapshots", "slices", "audio")  # large, or under the corpus's licence
_LISTING, _HISTORIES, _ARTIFACTS = "archive.json", "histories.parquet", "artifacts"
_ORIGIN = f"{TAG}origin"  # the run that an imported one was in its own store
_IMPORTED = f"{TAG}imported"  # it is all there
_STATUS = f"{TAG}status"
_LEARNING = ("train/", "validation/")
_FOLDERS = re.compile(r"(?<![^\s\"':])/(?:[^\s\"':/]+/)+")  # of absolute paths; a URL's // is none
_NO_DATE = (1980, 1, 1, 0, 0, 0)


class ArchiveError(ValueError):
    """An archive cannot be written or read; the message says why."""


@dataclass(frozen=True)
class _Entry:
    """One run as it was logged. Times are milliseconds since 1970."""

    id: str
    study: str
    name: str
    status: str
    start_time: int
    end_time: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)


def export_studies(
    studies: Sequence[str],
    path: Path,
    tracking_uri: str | None = None,
    *,
    extras: Collection[str] = (),
    histories: bool = True,
) -> int:
    """Write all that ended of `studies` into the archive at `path`; returns the number of runs.

    A run that several studies share is written once. The bytes depend on the store alone. Of absolute paths
    in parameters only the file's name is kept: folders are nobody's business. extras: of `EXTRAS`, what is
    left out otherwise. histories: whether learning curves go with it.

    Raises:
        ArchiveError: an extra that there is not.
        ResultsError: a study that the store does not have.
    """
    from rich.progress import track

    if wrong := sorted(set(extras) - set(EXTRAS)):
        raise ArchiveError(f"unknown extra {wrong[0]!r}; there are: {', '.join(EXTRAS)}")
    uri = store_uri(tracking_uri)
    owners: dict[str, Results] = {}
    for study in studies:
        results = load(study, uri)
        ended = [
            run_id
            for frame in (results.runs, results.references)
            if len(frame)
            for run_id, status in zip(frame["run_id"], frame["status"], strict=True)
            if status and status != RUNNING
        ]
        for run_id in (*([results.parent_id] if results.parent_id else []), *ended):
            owners.setdefault(run_id, results)
    store = Store(uri, studies[0])
    names = {str(one.experiment_id): one.name for one in store.experiments()}
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        entries, points = [], []
        for run_id, results in track(sorted(owners.items()), "exporting", transient=True):
            run = store.client.get_run(run_id)
            entries.append(_entry(run, names[run.info.experiment_id]))
            points += _points(store, entries[-1]) if histories else []
            if run_id != results.parent_id:
                _write_files(archive, results, run_id, extras)
        _write(archive, _HISTORIES, _parquet(points))
        listing = {
            "format": FORMAT,
            "codecbench": version("codecbench"),
            "runs": [asdict(entry) for entry in entries],
        }
        _write(archive, _LISTING, json.dumps(listing, indent=1, sort_keys=True).encode())
    return len(entries)


def import_archive(path: Path, tracking_uri: str | None = None) -> tuple[int, int]:
    """Put the runs of an archive into a tracking store; returns how many were new, and how many there before.

    A run that only half arrived, since an import was stopped, is put in again.

    Raises:
        ArchiveError: no archive, a damaged one, or one of a newer codecbench.
        TrackingError: the store does not answer.
    """
    from rich.progress import track

    uri = store_uri(tracking_uri)
    try:
        with zipfile.ZipFile(path) as archive:
            entries, histories = _read(archive, path)
            stores = {study: Store(uri, study) for study in dict.fromkeys(entry.study for entry in entries)}
            there = _there(next(iter(stores.values()))) if stores else {}
            new = [entry for entry in entries if entry.id not in there]
            ids = dict(there)
            # Parents first: their children name them.
            for entry in track(
                sorted(new, key=lambda one: PARENT_TAG in one.tags), "importing", transient=True
            ):
                ids[entry.id] = _put(stores[entry.study], entry, ids, histories.get(entry.id), archive)
    except FileNotFoundError:
        raise ArchiveError(f"no archive at {path}; give a file of `codecbench export`") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise ArchiveError(f"{path} is not of `codecbench export`, or damaged: {error}") from None
    return len(new), len(entries) - len(new)


def _entry(run: Run, study: str) -> _Entry:
    metrics = {key: value for key, value in run.data.metrics.items() if not key.startswith("system/")}
    tags = {key: value for key, value in run.data.tags.items() if key.startswith(TAG) or key == PARENT_TAG}
    info = run.info
    return _Entry(
        info.run_id,
        study,
        info.run_name,
        info.status,
        info.start_time,
        info.end_time,
        tags,
        {key: _FOLDERS.sub("", value) for key, value in run.data.params.items()},
        metrics,
    )


def _points(store: Store, entry: _Entry) -> list[tuple[str, str, int, float]]:
    return [
        (entry.id, key, step, value)
        for key in sorted(entry.metrics)
        if key.startswith(_LEARNING)
        for step, value in sorted(store.history(entry.id, key).items())
    ]


def _parquet(points: Sequence[tuple[str, str, int, float]]) -> bytes:
    frame = pd.DataFrame(points, columns=["run", "metric", "step", "value"])
    buffer = io.BytesIO()
    # Most values were float32, whose last bytes are zero: split by bytes they take half the room.
    frame.astype({"step": "int64", "value": "float64"}).to_parquet(
        buffer,
        engine="pyarrow",
        index=False,
        compression="zstd",
        use_dictionary=["run", "metric"],
        column_encoding={"step": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"},
    )
    return buffer.getvalue()


def _write_files(archive: zipfile.ZipFile, results: Results, run_id: str, extras: Collection[str]) -> None:
    """Write the artifacts of a run that belong in an archive: those at the top, and the extras."""
    left_out = {f"{extra}.npz" for extra in EXTRAS if extra not in extras}
    names = {name for name in results.files(run_id) if Path(name).suffix and name not in left_out}
    if "audio" in extras:
        names |= results.files(run_id, "audio")
    for name in sorted(names):
        copy = results.artifact(run_id, name)
        if copy is not None:
            _write(archive, f"{_ARTIFACTS}/{run_id}/{name}", copy.read_bytes())


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _NO_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _read(archive: zipfile.ZipFile, path: Path) -> tuple[list[_Entry], Mapping[str, pd.DataFrame]]:
    try:
        listing: dict[str, Any] = json.loads(archive.read(_LISTING))
        if listing["format"] != FORMAT:
            raise ArchiveError(
                f"{path} has format {listing['format']}, written by codecbench {listing['codecbench']}; this "
                f"codecbench reads format {FORMAT}. Install that version"
            )
        entries = [_Entry(**entry) for entry in listing["runs"]]
        if odd := [entry.id for entry in entries if not entry.id.isalnum()]:  # they become names of folders
            raise ArchiveError(f"{path} is not of `codecbench export`: a run has the id {odd[0]!r}")
        histories = pd.read_parquet(io.BytesIO(archive.read(_HISTORIES)))
        return entries, {str(run): points for run, points in histories.groupby("run")}
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ArchiveError(f"{path} is not of `codecbench export`: {error}") from None


def _there(store: Store) -> dict[str, str]:
    """Runs by what they were in the archive: imported before, or the store's own. Half ones are deleted."""
    found = {}
    for run in store.search_everywhere():
        origin = run.data.tags.get(_ORIGIN)
        if origin and _IMPORTED not in run.data.tags:
            store.client.delete_run(run.info.run_id)
        else:
            found[origin or str(run.info.run_id)] = str(run.info.run_id)
    return found


def _put(
    store: Store,
    entry: _Entry,
    ids: Mapping[str, str],
    history: pd.DataFrame | None,
    archive: zipfile.ZipFile,
) -> str:
    from mlflow.entities import Metric

    late = (_STATUS, _IMPORTED)
    tags = {key: value for key, value in entry.tags.items() if key not in late} | {_ORIGIN: entry.id}
    if PARENT_TAG in tags:
        tags[PARENT_TAG] = ids.get(tags[PARENT_TAG], tags[PARENT_TAG])
    client = store.client
    run = client.create_run(store.experiment_id, entry.start_time, tags, entry.name)
    run_id = str(run.info.run_id)
    store.log_params(run_id, entry.params)
    rows: Iterable[Any] = () if history is None else history.itertuples()
    metrics = [Metric(row.metric, row.value, entry.start_time, row.step) for row in rows]
    told = {metric.key for metric in metrics}
    metrics += [Metric(k, v, entry.start_time, 0) for k, v in entry.metrics.items() if k not in told]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH])
    prefix = f"{_ARTIFACTS}/{entry.id}/"
    with tempfile.TemporaryDirectory(prefix="codecbench-") as folder:
        members = [name for name in archive.namelist() if name.startswith(prefix)]
        archive.extractall(folder, members)  # which keeps names inside the folder
        if members:
            store.log_files(run_id, Path(folder) / prefix)
    if entry.end_time is not None:  # a study that goes on has no end
        client.set_terminated(run_id, entry.status, entry.end_time)
    status = {key: value for key, value in entry.tags.items() if key == _STATUS}
    store.set_tags(run_id, {**status, _IMPORTED: "true"})  # last: it arrived
    return run_id
