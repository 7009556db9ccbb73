"""Studies in one file: what the tables and figures are made from, to publish or to hand on.

The file is a zip. `archive.json` lists the runs, `histories.parquet` has what was logged while training,
`scores.parquet` the scores of all runs, `counts.parquet` how often each code was used, `texts.json` the
configurations, and `artifacts/<run>/` further files of one run. Weights are never in it.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.archive import count_table, score_table
from analysis.archive.files import TEXTS_OF_RUN
from analysis.archive.format import (
    ARTIFACTS,
    COUNTS,
    EXTRAS,
    FORMAT,
    HISTORIES,
    LISTING,
    SCORES,
    TEXTS,
    ArchiveError,
    readable,
)
from analysis.results.load import load
from analysis.results.study_results import Results
from experiments.common.atomic_files import replacing
from experiments.tracking import artifacts
from experiments.tracking.addresses import store_uri
from experiments.tracking.reader import reader
from experiments.tracking.schema import FINISHED, PARENT_TAG, RUNNING, TAG, Tag, status_of
from experiments.tracking.stored import StoredRun, Value

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_LEARNING = ("train/", "validation/", "budget/")
_FOLDERS = re.compile(r"(?<![^\s\"':])/(?:[^\s\"':/]+/)+")  # of absolute paths; a URL's // is none
_NO_DATE = (1980, 1, 1, 0, 0, 0)
_KINDS = (artifacts.SCORES, *TEXTS_OF_RUN)


def _nobody(*_: object) -> None:
    pass


def export_studies(
    studies: Sequence[str],
    path: Path,
    tracking_uri: str | None = None,
    *,
    extras: Collection[str] = (),
    histories: bool = True,
    progress: Callable[[str, int, int], None] = _nobody,
) -> int:
    """Write all that ended of `studies` into the archive at `path`; returns the number of runs.

    A run that several studies share is written once. The bytes depend on the store alone. Of absolute paths
    in parameters only the file's name is kept: folders are nobody's business. extras: of `EXTRAS`, what is
    left out otherwise. histories: whether learning curves go with it. progress: told the stage, the number of
    runs that are written, and of how many.

    Raises:
        ArchiveError: an extra that there is not.
        ResultsError: a study that the store does not have, or a finished run without its scores.
        TrackingError: the store does not answer.
    """
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
    store = reader(uri)
    names = {one.experiment_id: one.name for one in store.experiments()}
    runs = {run.info.run_id: run for run in store.runs(list(names)) if run.info.run_id in owners}
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        entries: list[dict[str, Any]] = []
        points: list[Value] = []
        files = _Files(archive)
        for number, (run_id, results) in enumerate(sorted(owners.items()), 1):
            run = runs[run_id]
            entries.append(_entry(run, names[run.info.experiment_id]))
            if histories:
                learned = [key for key in entries[-1]["metrics"] if key.startswith(_LEARNING)]
                points += list(store.histories([run_id], learned))
            if run_id != results.parent_id:
                files.add(results, run, extras)
            progress("exporting", number, len(owners))
        _write(archive, SCORES, score_table.packed(files.scores))
        _write(archive, COUNTS, count_table.packed(files.counts))
        _write(archive, TEXTS, json.dumps(files.texts, indent=1).encode())
        _write(archive, HISTORIES, _parquet(points))
        listing = {"format": FORMAT, "codecbench": version("codecbench"), "runs": entries}
        _write(archive, LISTING, json.dumps(listing, indent=1, sort_keys=True).encode())
    return len(entries)


def _entry(run: StoredRun, study: str) -> dict[str, Any]:
    """One run as `format.Entry` has it."""
    info, data = run.info, run.data
    tags = {key: value for key, value in data.tags.items() if key.startswith(TAG) or key == PARENT_TAG}
    tags.pop(Tag.STARTED, None)  # is about this store
    return {
        "id": info.run_id,
        "study": study,
        "name": info.run_name,
        "status": info.status,
        "start_time": info.start_time,
        "end_time": info.end_time,
        "tags": readable(tags),
        "params": {key: _FOLDERS.sub("", value) for key, value in data.params.items()},
        "metrics": {key: value for key, value in data.metrics.items() if not key.startswith("system/")},
    }


def _parquet(points: Sequence[Value]) -> bytes:
    frame = pd.DataFrame(points, columns=["run", "metric", "step", "value"])
    buffer = io.BytesIO()
    # Most values were float32, whose last bytes are zero: split by bytes they take half the room.
    frame.astype({"step": "int64", "value": "float64"}).to_parquet(
        buffer,
        engine="pyarrow",
        index=False,
        compression="zstd",
        compression_level=19,
        use_dictionary=["run", "metric"],
        column_encoding={"step": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"},
    )
    return buffer.getvalue()


@dataclass
class _Files:
    """Artifacts on their way into an archive. Runs share a member for scores, for counts and for texts."""

    archive: zipfile.ZipFile
    scores: dict[str, pa.Table] = field(default_factory=dict)
    counts: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, results: Results, run: StoredRun, extras: Collection[str]) -> None:
        """Take the artifacts of a run that belong in an archive. Raises ResultsError where one is gone."""
        run_id = run.info.run_id
        kept = {*_KINDS, artifacts.HISTOGRAMS, *(f"{extra}.npz" for extra in extras)}
        names = results.files(run_id) & kept
        if status_of(run)[0] == FINISHED:
            names |= set(artifacts.needed(run.data.tags))
        if artifacts.AUDIO in extras:
            names |= results.files(run_id, artifacts.AUDIO)
        for name in sorted(names):
            path = results.needed(run_id, name)
            if name in TEXTS_OF_RUN:
                self.texts.setdefault(run_id, {})[name] = path.read_text(encoding="utf-8")
            elif name == artifacts.SCORES and len(scores := score_table.of_run(path)):
                self.scores[run_id] = scores
            elif name == artifacts.HISTOGRAMS and (counts := count_table.of_run(path)):
                self.counts[run_id] = counts
            else:
                _write(self.archive, f"{ARTIFACTS}/{run_id}/{name}", path.read_bytes())


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _NO_DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)
