"""`codecbench runs`, `show`, `compare`, `clean` and `ui`: what there is in a store and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.options import OutputFormat, RunsFolder, StudyName, TrackingUri
from experiments.tracking.store import store_uri


def runs(
    study: StudyName,
    directory: RunsFolder = Path("runs"),
    format: OutputFormat = "console",
    tracking_uri: TrackingUri = None,
) -> None:
    """List the runs of a study: row, seed, status, reason, time and folder."""
    from experiments.commands.housekeeping import shown_runs

    shown_runs.show_list(study, store_uri(tracking_uri), directory, format)


def show(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="MLflow id or hash of a run, or its first digits"),
    ],
    directory: RunsFolder = Path("runs"),
    format: OutputFormat = "console",
    tracking_uri: TrackingUri = None,
) -> None:
    """Show one run: configuration, metrics and files."""
    from experiments.commands.housekeeping import shown_runs

    shown_runs.show_run(run, store_uri(tracking_uri), directory, format)


def compare(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="name of a study in the tracking store")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="name of another study in it")],
    format: OutputFormat = "console",
    tracking_uri: TrackingUri = None,
) -> None:
    """Compare the common rows of two studies, paired by seed and utterance."""
    from experiments.commands.housekeeping import compare as comparing

    comparing.compare(first, second, store_uri(tracking_uri), format)


def clean(
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="list and delete only this kind of file; repeatable"),
    ] = None,
    older_than: Annotated[
        float, typer.Option(min=0, metavar="DAYS", help="include prepared corpora unused for this many days")
    ] = 30,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="delete without asking")] = False,
    directory: RunsFolder = Path("runs"),
    tracking_uri: TrackingUri = None,
) -> None:
    """List files that are no longer needed, with sizes, and delete them after a question."""
    from experiments.commands.housekeeping import cleaning

    cleaning.clean(kind or [], older_than, yes, directory, store_uri(tracking_uri))


def ui(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, metavar="PORT", help="port; default: 5000 or the next free one"),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Start the MLflow UI on the tracking store, reachable from this machine only."""
    from experiments.commands.housekeeping import mlflow_ui

    mlflow_ui.serve(store_uri(tracking_uri), port)
