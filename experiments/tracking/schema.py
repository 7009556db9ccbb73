"""What runs are called in the tracking store: the names of its tags, and what they say."""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

TAG = "codecbench."
PARENT_TAG = "mlflow.parentRunId"

KIND_STUDY, KIND_RUN = "study", "run"
KIND_WARM_START = "warm start"  # the weights that runs of a seed start from
RUNNING, FINISHED, FAILED, DIVERGED = "running", "finished", "failed", "diverged"
PRUNED = "pruned"  # a search gave it up; its state is kept, and whoever needs the run goes on from there

_TEXT_LENGTH = 6000
_ROWS = 50  # rows a tag; MLflow takes 8000 characters


def short(text: str) -> str:
    """`text` as far as MLflow takes it, as the value of a parameter or a tag."""
    return text[:_TEXT_LENGTH]


def rows(labels: Mapping[str, str]) -> dict[str, str]:
    """Tags of a study's parent run that list its runs: label by run hash, in order. Read by `rows_of`."""
    items = list(labels.items())
    parts = [dict(items[start : start + _ROWS]) for start in range(0, len(items), _ROWS)]
    return {f"{TAG}rows.{number}": json.dumps(part) for number, part in enumerate(parts)}


def rows_of(parent: "MlflowRun") -> dict[str, str]:
    """Label by run hash of the runs that a study's parent lists."""
    found: dict[str, str] = {}
    number = 0
    while part := parent.data.tags.get(f"{TAG}rows.{number}"):
        found |= json.loads(part)
        number += 1
    return found


def superseded(run: "MlflowRun") -> bool:
    """Whether a run was put aside by `run --force`."""
    return bool(run.data.tags.get(f"{TAG}superseded") == "true")


def status_of(run: "MlflowRun") -> tuple[str, str]:
    """Status of a run, and the reason for it if there is one."""
    return run.data.tags.get(f"{TAG}status", ""), run.data.tags.get(f"{TAG}reason", "")


def newest(runs: "Iterable[MlflowRun]") -> "dict[str, MlflowRun]":
    """One run for each identity: the last that finished, otherwise the last. Superseded ones do not count.

    runs: the oldest first.
    """
    best: dict[str, MlflowRun] = {}
    for run in runs:
        key = run.data.tags.get(f"{TAG}run_hash", "")
        finished_before = key in best and status_of(best[key])[0] == FINISHED
        if not superseded(run) and (status_of(run)[0] == FINISHED or not finished_before):
            best[key] = run
    return best


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


def _git(directory: Path, *arguments: str) -> str:
    command: Sequence[str] = ("git", "-C", str(directory), *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
