"""Show runs: a list of those of a study, and one run with its configuration, values and files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath

from analysis.results.run_files import RunFiles
from experiments.commands.display.terminal import PlainTable, output
from experiments.commands.display.time_left import words
from experiments.commands.documents import document
from experiments.commands.documents.runs import ListedRunPart, RunsDocument, ShowDocument
from experiments.commands.housekeeping import run_list
from experiments.common.plain_words import counted
from experiments.tracking import places
from experiments.tracking.named_runs import label_of, the_run
from experiments.tracking.schema import Tag, status_of, superseded
from experiments.tracking.stored import StoredRun

_COLOURS = {"finished": "green", "failed": "red", "diverged": "red"}


def show_list(study: str, uri: str, runs_folder: Path, format: str) -> None:
    """Print the runs of a study. Raises ResultsError, TrackingError."""
    runs = run_list.of_study(study, uri, runs_folder)
    if format == "json":
        parts = [ListedRunPart.model_validate(vars(run)) for run in runs]
        document.emit(RunsDocument(study=study, store=uri, runs=parts))
        return
    columns = ("row", "seed", "status", "time", "run", "where", "reason")
    table = PlainTable(*columns, texts=("status", "run", "where", "reason"), keys=2)
    for run in runs:
        table.add(
            *(run.label, "—" if run.seed is None else str(run.seed)),
            (run.status, _COLOURS.get(run.status, "")),
            "—" if run.seconds is None else words(run.seconds),
            *(run.run_hash[:8], run.where or "—", run.reason),
        )
    console = output()
    console.table(table)
    counts = [run.status for run in runs]
    told = ", ".join(f"{counts.count(status)} {status}" for status in dict.fromkeys(counts))
    console.say(f"{counted(len(runs), 'run')}: {told}. One in full: codecbench show RUN")


def show_run(given: str, uri: str, runs_folder: Path, format: str) -> None:
    """Print one run in full. Raises RunError, TrackingError."""
    run, study = the_run(given, uri)
    status, reason = status_of(run)
    files = _files(run, uri)
    training = run.data.tags.get(Tag.TRAINING_HASH, "")
    weights = run_list.place_of(training, runs_folder)
    started, seconds = _times(run)
    values: dict[str, float | None] = {
        name: value for name, value in sorted(run.data.metrics.items()) if not name.startswith("system/")
    }
    if format == "json":
        document.emit(
            ShowDocument(
                run_id=run.info.run_id,
                study=study,
                name=label_of(run),
                status=status,
                reason=reason,
                superseded=superseded(run),
                started=started,
                seconds=seconds,
                run_hash=run.data.tags.get(Tag.RUN_HASH, ""),
                training_hash=training,
                weights=weights,
                configuration=dict(sorted(run.data.params.items())),
                metrics=values,
                files=files,
            )
        )
        return
    console = output()
    console.say((label_of(run), "bold"), f" of study {study}")
    console.say((status, _COLOURS.get(status, "")), f": {reason}" if reason else "")
    if superseded(run):
        console.say(("put aside", "yellow"), " by run --force")
    took = "" if seconds is None else f", took {words(seconds)}"
    console.say(f"started {started}{took}")
    console.say(f"id {run.info.run_id}, hash {run.data.tags.get(Tag.RUN_HASH, '—')}")
    console.say(f"weights: {weights or 'not in the folder of runs'}", to_copy=True)
    scores, others = _scores(values)
    for title, pairs in (
        ("scores", scores),
        ("configuration", sorted(run.data.params.items())),
        ("other values", others),
    ):
        if not pairs:
            continue
        console.say()
        console.say((title, "bold"))
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            console.say(f"  {name.ljust(width)}  {value}", to_copy=True)
    console.say()
    console.say(("files", "bold"))
    for file in files:
        console.say(f"  {file}", to_copy=True)


_DETAILS = ("_asked", "_scored", "_failed", "_low", "_high")  # of a score, logged beside it


def _scores(values: Mapping[str, float | None]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Scores, each with its interval and counts in one line, and the values that are none of these."""
    scores: list[tuple[str, str]] = []
    told: set[str] = set()
    for name, value in values.items():
        details = {end: values.get(name + end) for end in _DETAILS}
        if not name.startswith("eval/") or details["_asked"] is None:
            continue
        text = _number(value)
        if details["_low"] is not None and details["_high"] is not None:
            text += f" [{_number(details['_low'])}, {_number(details['_high'])}]"
        text += f"  {_number(details['_scored'])} of {_number(details['_asked'])} utterances"
        scores.append((name, text))
        told.update((name, *(name + end for end in _DETAILS)))
    return scores, [(name, _number(value)) for name, value in values.items() if name not in told]


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.6g}"


def _times(run: StoredRun) -> tuple[str, float | None]:
    """When a run was started, in this machine's time, and the seconds until its end."""
    started = datetime.fromtimestamp(run.info.start_time / 1000).astimezone()
    ended = run.info.end_time
    seconds = None if ended is None else (ended - run.info.start_time) / 1000
    return started.isoformat(" ", "seconds"), seconds


def _files(run: StoredRun, uri: str) -> list[str]:
    """Paths of a run's artifacts: on this machine, or below its address."""
    run_id, address = run.info.run_id, run.info.artifact_uri
    with tempfile.TemporaryDirectory() as temporary:
        files = RunFiles(uri, {run_id: address}, Path(temporary))
        names = [*_below(files, run_id, ".", 0)]
    place = places.current(address, uri)
    return [str(place / name) if place else f"{address.rstrip('/')}/{name}" for name in sorted(names)]


def _below(files: RunFiles, run_id: str, folder: str, depth: int) -> list[str]:
    """All files below a folder of artifacts; a name without a suffix is looked into as a folder."""
    names: list[str] = []
    for name in files.listed(run_id, folder):
        inside = [] if PurePosixPath(name).suffix or depth > 3 else _below(files, run_id, name, depth + 1)
        names += inside or [name]
    return names
