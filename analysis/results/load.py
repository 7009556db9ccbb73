"""Find a study in a tracking store, with what it shares with others, and read it."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.results.labels import logged_series
from analysis.results.run_files import RunFiles
from analysis.results.study_results import RUN_COLUMNS, Results, ResultsError
from analysis.results.uniform_use import with_uniform_use
from experiments.tracking.addresses import store_uri
from experiments.tracking.errors import shown
from experiments.tracking.reader import reader
from experiments.tracking.schema import (
    FINISHED,
    KIND_RUN,
    KIND_STUDY,
    PARENT_TAG,
    TAG,
    Tag,
    contrasts_of,
    deleted_study,
    newest,
    parent_of,
    rows_of,
)
from experiments.tracking.stored import DELETED, Reader, StoredRun
from quantizers.suggestions import did_you_mean

_NEEDED = ("rate/bits_per_frame", "rate/bitrate", "rate/streams")  # not logged where nothing is coded


def load(
    study: str,
    tracking_uri: str | None = None,
    *,
    parent: str | None = None,
    run_hashes: Collection[str] | None = None,
) -> Results:
    """Read a study from a tracking store.

    parent: the parent run of the study. A study that was run again with other settings has several; the
        default is the one that was worked on last.
    run_hashes: hashes of the runs to read, instead of the runs of a parent.

    Runs that the study shares with other studies of the store are included, with the labels of this study.

    Raises:
        ResultsError: no such study, or nothing in it.
        TrackingError: there is no store at that address, or it cannot be read.
    """
    uri = store_uri(tracking_uri)
    store = reader(uri)
    experiment = store.experiment(study)
    if experiment is None:
        raise ResultsError(_unknown_study(study, store))
    if experiment.lifecycle_stage == DELETED:
        raise ResultsError(deleted_study(study, experiment.experiment_id, shown(uri)))
    own_runs = store.runs([experiment.experiment_id], {"kind": (KIND_STUDY, KIND_RUN)})
    children = [run for run in own_runs if run.data.tags[Tag.KIND] == KIND_RUN]
    chosen = parent_of(own_runs, parent)
    listed = _listed(chosen) if chosen else {}
    wanted = set(run_hashes or listed)
    own = chosen.info.run_id if chosen else None
    added = [run for run in children if _added(run) and run.data.tags.get(PARENT_TAG) == own]
    if wanted:
        children = [run for run in children if run.data.tags.get(Tag.RUN_HASH) in wanted]
        children += _of_other_studies(store, experiment.experiment_id, wanted, children)
    else:
        children = [run for run in children if run.data.tags.get(PARENT_TAG) == own and not _added(run)]
    if all(_is_reference(run) for run in children):
        raise ResultsError(
            f"study {study!r} in {shown(uri)} has no runs yet; start it with `codecbench run {study}`"
        )
    settings = dict(chosen.data.params) if chosen else {}
    # What `run --force` put aside stays in tables until the new runs finish.
    counted = list(newest([*children, *added], put_aside_too=True).values())
    rows = [_row(run, listed) for run in counted]
    order = dict.fromkeys(listed.values()) or _labels(settings)
    place = {label: number for number, label in enumerate(order)}
    rows.sort(key=lambda row: (place.get(row["label"], len(place)), row["seed"] if place else 0))
    downloads = Path(tempfile.mkdtemp(prefix="codecbench-"))
    results = Results(
        study,
        uri,
        with_uniform_use(_frame([row for row in rows if not row["reference"]])),
        settings,
        _reader=store,
        _files=RunFiles(uri, {run.info.run_id: run.info.artifact_uri for run in counted}, downloads),
        references=_frame([row for row in rows if row["reference"]]),
        parent_id=own,
        contrasts=contrasts_of(chosen) if chosen else (),
        from_archive=_from_archive(counted, chosen),
    )
    weakref.finalize(results, shutil.rmtree, downloads, ignore_errors=True)
    return results


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=list(dict.fromkeys([*RUN_COLUMNS, *frame.columns, *_NEEDED])))
    first = [*RUN_COLUMNS]
    return frame[first + sorted(set(frame.columns) - set(first))]


def _is_reference(run: StoredRun) -> bool:
    return run.data.tags.get(Tag.REFERENCE) == "true"


def _added(run: StoredRun) -> bool:
    """Whether a reference was put into the study from a folder, by `codecbench evaluate --study`."""
    return run.data.tags.get(Tag.ADDED) == "true"


def _from_archive(runs: Sequence[StoredRun], parent: StoredRun | None) -> frozenset[str]:
    """Ids of the runs that came out of an archive, where the study is not merely a copy out of one."""
    if parent is None or (Tag.ORIGIN in parent.data.tags and Tag.STARTED not in parent.data.tags):
        return frozenset()
    return frozenset(run.info.run_id for run in runs if Tag.ORIGIN in run.data.tags)


def _unknown_study(study: str, store: Reader) -> str:
    names = sorted(one.name for one in store.experiments() if one.name != "Default")
    hint = did_you_mean(study, names)
    return f"no study {study!r} in {shown(store.uri)}; {hint}studies there: {', '.join(names) or 'none'}"


def _listed(parent: StoredRun) -> dict[str, str]:
    """Label by identity of the study's runs."""
    try:
        return rows_of(parent)
    except ValueError as error:
        raise ResultsError(
            f"the tags {Tag.ROWS}... of run {parent.info.run_id} do not list the study's runs: {error}. "
            "Remedy: start the study again, which writes them anew"
        ) from None


def _of_other_studies(
    store: Reader, experiment_id: str, wanted: Collection[str], own: Sequence[StoredRun]
) -> list[StoredRun]:
    """What of `wanted` has not finished in this study: runs of others, from the first started on."""
    finished = {run.data.tags[Tag.RUN_HASH] for run in own if run.data.tags.get(Tag.STATUS) == FINISHED}
    missing = set(wanted) - finished
    others = [one.experiment_id for one in store.experiments() if one.experiment_id != experiment_id]
    if not missing or not others:
        return []
    found = store.runs(others, {"kind": (KIND_RUN,), "run_hash": missing})
    return sorted(found, key=lambda run: run.data.tags[Tag.RUN_HASH])


def _labels(settings: Mapping[str, str]) -> list[str]:
    """Labels in the order of the study file."""
    try:
        choices = json.loads(settings.get("quantizers", "[]"))
        return [str(choice.get("label") or choice["name"]) for choice in choices]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def _row(run: StoredRun, labels: Mapping[str, str]) -> dict[str, Any]:
    tags: Mapping[str, str] = run.data.tags
    row: dict[str, Any] = {name: tags.get(f"{TAG}{name}", "") for name in RUN_COLUMNS}
    row["run_id"] = run.info.run_id
    row["label"] = labels.get(row["run_hash"]) or row["label"] or row["quantizer"] or run.info.run_name
    row["series"] = logged_series(tags, row["label"])
    row["seed"] = _seed(run)
    row["synthetic"] = row["synthetic"].lower() == "true"
    row["reference"] = row["reference"].lower() == "true"
    row["git_dirty"] = row["git_dirty"].lower() == "true"
    row.update({name: float(value) for name, value in run.data.metrics.items()})
    row.update({f"param/{name}": value for name, value in run.data.params.items()})
    return row


def _seed(run: StoredRun) -> int:
    seed = run.data.tags.get(Tag.SEED) or "0"
    try:
        return int(seed)
    except ValueError:
        raise ResultsError(
            f"the tag {Tag.SEED} of run {run.info.run_id} is {seed!r}, which is not a whole number. "
            "Remedy: correct it in MLflow"
        ) from None
