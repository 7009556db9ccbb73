"""Names in the tracking store: the tags of runs, and which run counts where there are several."""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

TAG = "codecbench."
PARENT_TAG = "mlflow.parentRunId"


class Tag:
    """Names of the tags of runs; `LEASE` is one of experiments."""

    KIND = f"{TAG}kind"
    RUN_HASH = f"{TAG}run_hash"  # identity of a run; a warm start's is its training's
    TRAINING_HASH = f"{TAG}training_hash"  # identity of a training: runs of one share its weights
    STUDY_HASH = f"{TAG}study_hash"
    STATUS = f"{TAG}status"
    REASON = f"{TAG}reason"
    LABEL = f"{TAG}label"
    SERIES = f"{TAG}series"  # what stays the same along a rate-distortion curve
    QUANTIZER = f"{TAG}quantizer"
    SEED = f"{TAG}seed"
    REFERENCE = f"{TAG}reference"  # "true": a codec from outside, or a control
    ADDED = f"{TAG}added"  # "true": a reference that was scored outside the study
    PROTOCOL = f"{TAG}protocol"
    CORPUS = f"{TAG}corpus"
    CORPUS_HASH = f"{TAG}corpus_hash"
    SYNTHETIC = f"{TAG}synthetic"
    PRECISION = f"{TAG}precision"
    DEVICE = f"{TAG}device"  # that it was trained on: the name of a GPU, or "cpu"
    WARM_START = f"{TAG}warm_start"  # training hash of the warm start
    STARTING_WEIGHTS = f"{TAG}starting_weights"  # digest of encoder and decoder before the first step
    SUPERSEDED = f"{TAG}superseded"  # "true": put aside by `run --force`
    VERSION = f"{TAG}version"
    TORCH = f"{TAG}torch"
    GIT_COMMIT = f"{TAG}git_commit"
    GIT_DIRTY = f"{TAG}git_dirty"
    ORIGIN = f"{TAG}origin"  # the run that an imported one was in its own store
    IMPORTED = f"{TAG}imported"  # "true": all of an imported run arrived
    STARTED = f"{TAG}started"  # "true": `codecbench run` was started on the study in this store
    ROWS = f"{TAG}rows."  # and a number: the runs of a study, see `rows`
    CONTRASTS = f"{TAG}contrasts."  # and a number: differences that a study is made for, see `contrasts`
    WARNING = f"{TAG}warning."  # and a name
    LEASE = f"{TAG}lease."  # and what is leased, and a claim's own name


KIND_STUDY, KIND_RUN = "study", "run"
KIND_WARM_START = "warm start"  # the weights that runs of a seed start from
RUNNING, FINISHED, FAILED, DIVERGED = "running", "finished", "failed", "diverged"
PRUNED = "pruned"  # a search gave it up; its state is kept, and whoever needs the run goes on from there
STATUSES = (RUNNING, FINISHED, FAILED, DIVERGED, PRUNED)

_TEXT_LENGTH = 6000
_ROWS = 50  # rows a tag; MLflow takes 8000 characters
_CONTRASTS = 8  # a tag


class TaggedRun(Protocol):
    """A run as MLflow's client gives it, or as `reader` reads it: `info.run_id`, `info.end_time`,
    `data.tags`."""

    @property
    def info(self) -> Any: ...

    @property
    def data(self) -> Any: ...


AnyRun = TypeVar("AnyRun", bound=TaggedRun)


def short(text: str) -> str:
    """`text` as far as MLflow takes it, as the value of a parameter or a tag."""
    return text[:_TEXT_LENGTH]


def rows(labels: Mapping[str, str]) -> dict[str, str]:
    """Tags of a study's parent run that list its runs: label by run hash, in order. Read by `rows_of`."""
    items = list(labels.items())
    parts = [dict(items[start : start + _ROWS]) for start in range(0, len(items), _ROWS)]
    return {f"{Tag.ROWS}{number}": json.dumps(part) for number, part in enumerate(parts)}


def rows_of(parent: TaggedRun) -> dict[str, str]:
    """Label by run hash of the runs that a study's parent lists. Raises ValueError for a tag that is none."""
    listed: dict[str, str] = {}
    number = 0
    while part := parent.data.tags.get(f"{Tag.ROWS}{number}"):
        listed |= row_labels(part)
        number += 1
    return listed


def row_labels(part: str) -> dict[str, str]:
    """Label by run hash in one of the tags of `rows`. Raises ValueError where it says something else."""
    try:
        labels = json.loads(part)
    except RecursionError:
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(label, str) for label in labels.values()):
        raise ValueError(f"not labels by run hash: {part[:60]}")
    return labels


def contrasts(wanted: Sequence[Mapping[str, str | bool]]) -> dict[str, str]:
    """Tags of a study's parent run that list its contrasts. Read by `contrasts_of`.

    They are tags and no parameters, since a study may get others later; the last tag ends the list. Only
    those that were not planned say so: earlier versions read texts alone.
    """
    listed = [
        {key: value for key, value in one.items() if key != "planned" or value is not True} for one in wanted
    ]
    parts = [listed[start : start + _CONTRASTS] for start in range(0, len(listed), _CONTRASTS)]
    return {
        f"{Tag.CONTRASTS}{number}": json.dumps(part, ensure_ascii=False)
        for number, part in enumerate([*parts, []])
    }


def contrasts_of(parent: TaggedRun) -> list[dict[str, str | bool]]:
    """The contrasts that a study's parent lists, as far as they can be read."""
    listed: list[dict[str, str | bool]] = []
    number = 0
    while part := contrasts_in(parent.data.tags.get(f"{Tag.CONTRASTS}{number}", "")):
        listed += part
        number += 1
    return listed


def contrasts_in(part: str) -> list[dict[str, str | bool]]:
    """The contrasts in one of the tags of `contrasts`; none where it says something else."""
    try:
        found = json.loads(part)
    except (ValueError, RecursionError):
        return []
    texts = ("effect", "name", "of", "less")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return []
    return [
        {**{key: one[key] for key in texts}, "planned": one.get("planned", True) is True}
        for one in found
        if all(isinstance(one.get(key), str) for key in texts)
    ]


def superseded(run: TaggedRun) -> bool:
    """Whether a run was put aside by `run --force`."""
    return bool(run.data.tags.get(Tag.SUPERSEDED) == "true")


def status_of(run: TaggedRun) -> tuple[str, str]:
    """Status of a run, and the reason for it if there is one."""
    return run.data.tags.get(Tag.STATUS, ""), run.data.tags.get(Tag.REASON, "")


def newest(runs: Iterable[AnyRun], *, put_aside_too: bool = False) -> dict[str, AnyRun]:
    """One run for each identity, in order of first start: the last that finished, otherwise the last.

    runs: the oldest first. One without an identity goes by its MLflow id. put_aside_too: whether runs that
    `run --force` put aside count: in tables they do, until the new ones finish; for what is left to do they
    don't.
    """
    best: dict[str, AnyRun] = {}
    for run in runs:
        if superseded(run) and not put_aside_too:
            continue
        key = run.data.tags.get(Tag.RUN_HASH, run.info.run_id)
        finished_before = key in best and status_of(best[key])[0] == FINISHED
        if status_of(run)[0] == FINISHED or not finished_before:
            best[key] = run
    return best


def parent_of(runs: Iterable[AnyRun], run_id: str | None = None) -> AnyRun | None:
    """The parent run `run_id` of a study among its `runs`, or else the one that was worked on last."""
    parents = [run for run in runs if run.data.tags.get(Tag.KIND) == KIND_STUDY]
    if run_id is not None:
        return next((run for run in parents if run.info.run_id == run_id), None)
    # A parent under way has no end; one that was taken up again ends later than it began.
    return max(parents, key=lambda run: (run.info.end_time is None, run.info.end_time or 0), default=None)


def deleted_study(study: str, experiment_id: str, uri: str) -> str:
    """What to tell of a study that was deleted in MLflow, and how it comes back."""
    return (
        f"the study {study!r} is deleted in {uri}. Remedy: restore it with its runs by "
        f"`MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {experiment_id}`, "
        "or give the study another name"
    )


@cache
def provenance() -> dict[str, str]:
    """Tags that say which code made a run."""
    tags = {Tag.VERSION: version("codecbench"), Tag.TORCH: version("torch")}
    here = Path(__file__).parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit:
        tags[Tag.GIT_COMMIT] = commit
        tags[Tag.GIT_DIRTY] = str(bool(_git(here, "status", "--porcelain", "--untracked-files=no"))).lower()
    return tags


def _git(directory: Path, *arguments: str) -> str:
    command: Sequence[str] = ("git", "-C", str(directory), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
