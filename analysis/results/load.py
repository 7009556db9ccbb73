"""Find a study in a tracking store, with what it shares with others, and read it."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.results.labels import logged_series
from analysis.results.study_results import RUN_COLUMNS, Results, ResultsError, connect
from analysis.results.uniform_use import with_uniform_use
from experiments.tracking.schema import FINISHED, KIND_RUN, KIND_STUDY, PARENT_TAG, TAG, rows_of
from experiments.tracking.store import store_uri
from quantizers.suggestions import did_you_mean

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
_HASH = f"{TAG}run_hash"
_NEEDED = ("rate/bits_per_frame", "rate/bitrate", "rate/streams")  # not logged where nothing is coded


def load(
    study: str,
    tracking_uri: str | None = None,
    *,
    parent: str | None = None,
    run_hashes: Collection[str] | None = None,
) -> Results:
    """Read a study.

    A study that was run again with other settings has several parent runs; the one worked on last counts
    unless `parent` names another. `run_hashes` selects runs by identity instead. What the study shares with
    other studies of the store is found there, and bears this study's label.

    Raises:
        ResultsError: no store at that address, no such study, or nothing in it.
    """
    uri = store_uri(tracking_uri)
    client = connect(uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        raise ResultsError(_unknown_study(study, uri, client))
    found = _search(client, [experiment.experiment_id])
    children = [run for run in found if run.data.tags.get(f"{TAG}kind") == KIND_RUN]
    chosen = _parent(found, parent)
    listed = rows_of(chosen) if chosen else {}  # label by identity
    wanted = set(run_hashes or listed)
    own = chosen.info.run_id if chosen else None
    added = [run for run in children if _added(run) and run.data.tags.get(PARENT_TAG) == own]
    if wanted:
        children = [run for run in children if run.data.tags.get(_HASH) in wanted]
        children += _of_other_studies(client, experiment.experiment_id, wanted, children)
    else:
        children = [run for run in children if run.data.tags.get(PARENT_TAG) == own and not _added(run)]
    if all(_is_reference(run) for run in children):
        raise ResultsError(
            f"study {study!r} in {uri} has no runs yet; start it with `codecbench run {study}`"
        )
    settings = dict(chosen.data.params) if chosen else {}
    shown = _latest_of_each([*children, *added])
    rows = [_row(run, listed) for run in shown]
    order = dict.fromkeys(listed.values()) or _labels(settings)
    place = {label: number for number, label in enumerate(order)}
    rows.sort(key=lambda row: (place.get(row["label"], len(place)), row["seed"] if place else 0))
    downloads = Path(tempfile.mkdtemp(prefix="codecbench-"))
    results = Results(
        study,
        uri,
        with_uniform_use(_frame([row for row in rows if not row["reference"]])),
        settings,
        _client=client,
        _downloads=downloads,
        references=_frame([row for row in rows if row["reference"]]),
        parent_id=own,
        _places={run.info.run_id: run.info.artifact_uri for run in shown},
    )
    weakref.finalize(results, shutil.rmtree, downloads, ignore_errors=True)
    return results


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=list(dict.fromkeys([*RUN_COLUMNS, *frame.columns, *_NEEDED])))
    first = [*RUN_COLUMNS]
    return frame[first + sorted(set(frame.columns) - set(first))]


def _is_reference(run: Run) -> bool:
    return run.data.tags.get(f"{TAG}reference") == "true"


def _added(run: Run) -> bool:
    """Whether a reference was put into the study from a folder, by `codecbench evaluate --study`."""
    return run.data.tags.get(f"{TAG}added") == "true"


def _unknown_study(study: str, uri: str, client: MlflowClient) -> str:
    names = sorted(e.name for e in client.search_experiments() if e.name != "Default")
    hint = did_you_mean(study, names)
    return f"no study {study!r} in {uri}; {hint}studies there: {', '.join(names) or 'none'}"


def _search(client: MlflowClient, experiment_ids: list[str], condition: str = "") -> list[Run]:
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            experiment_ids,
            condition,
            max_results=_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs += list(page)
        token = page.token
        if not token:
            return runs


def _parent(runs: list[Run], wanted: str | None) -> Run | None:
    """The parent run `wanted`, or the one that was worked on last."""
    parents = [run for run in runs if run.data.tags.get(f"{TAG}kind") == KIND_STUDY]
    if wanted is not None:
        return next((run for run in parents if run.info.run_id == wanted), None)
    # A parent under way has no end; one that was taken up again ends later than it began.
    return max(parents, key=lambda run: (run.info.end_time is None, run.info.end_time or 0), default=None)


def _of_other_studies(
    client: MlflowClient, experiment_id: str, wanted: Collection[str], own: Sequence[Run]
) -> list[Run]:
    """What of `wanted` has not finished in this study: runs of others, from the first started on."""
    finished = {run.data.tags[_HASH] for run in own if run.data.tags.get(f"{TAG}status") == FINISHED}
    others = [one.experiment_id for one in client.search_experiments() if one.experiment_id != experiment_id]
    kind = f"tags.`{TAG}kind` = '{KIND_RUN}'"
    found: list[Run] = []
    for run_hash in sorted(set(wanted) - finished) if others else ():
        found += _search(client, others, f"{kind} and tags.`{_HASH}` = '{run_hash}'")
    return found


def _labels(settings: Mapping[str, str]) -> list[str]:
    """Labels in the order of the study file."""
    try:
        choices = json.loads(settings.get("quantizers", "[]"))
        return [choice.get("label") or choice["name"] for choice in choices]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def _latest_of_each(runs: list[Run]) -> list[Run]:
    """One run for each identity: the last that finished, otherwise the last; in order of first start."""
    best: dict[str, Run] = {}
    for run in runs:
        tags: Mapping[str, str] = run.data.tags
        key = tags.get(_HASH, run.info.run_id)
        previous = best.get(key)
        keep_old = (
            previous is not None
            and previous.data.tags.get(f"{TAG}status") == FINISHED
            and tags.get(f"{TAG}status") != FINISHED
        )
        if not keep_old:
            best[key] = run
    return list(best.values())


def _row(run: Run, labels: Mapping[str, str]) -> dict[str, Any]:
    tags: Mapping[str, str] = run.data.tags
    row: dict[str, Any] = {name: tags.get(f"{TAG}{name}", "") for name in RUN_COLUMNS}
    row["run_id"] = run.info.run_id
    row["label"] = labels.get(row["run_hash"]) or row["label"] or row["quantizer"] or run.info.run_name
    row["series"] = logged_series(tags, row["label"])
    row["seed"] = int(row["seed"] or 0)
    row["synthetic"] = row["synthetic"].lower() == "true"
    row["reference"] = row["reference"].lower() == "true"
    row["git_dirty"] = row["git_dirty"].lower() == "true"
    row.update({name: float(value) for name, value in run.data.metrics.items()})
    row.update({f"param/{name}": value for name, value in run.data.params.items()})
    return row
