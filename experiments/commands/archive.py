"""Commands that take studies out of a tracking store as one file, and put them into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands import outputs, progress
from experiments.commands.display.terminal import messages, output
from experiments.commands.options import Quiet, TrackingUri, file_name
from experiments.tracking.store import store_uri


def export(
    studies: Annotated[list[str], typer.Argument(help="names of studies")],
    archive: Annotated[
        Path | None,
        typer.Option(
            "--output", parser=file_name, metavar="FILE", help="file to write; default FIRST-STUDY.zip"
        ),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(help="latents, snapshots, slices, audio: large, or licensed as the corpus is"),
    ] = None,
    histories: Annotated[bool, typer.Option(help="with learning curves")] = True,
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write what tables and figures of studies are made from into one file, without weights."""
    path = archive or outputs.named_after("", studies[0], ".zip")
    outputs.check_file(path)

    from analysis.results.archive import export_studies

    with progress.progress_bar(messages(quiet)) as shown:
        number = export_studies(
            studies, path, tracking_uri, extras=extra or (), histories=histories, progress=shown
        )
    output().say(f"wrote {number} runs to {path}, {path.stat().st_size / 1e6:.1f} MB")


def import_(
    archive: Annotated[Path, typer.Argument(help="file of `codecbench export`")],
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Put the studies of an exported file into a tracking store, for tables, figures and reports."""
    from analysis.results.archive import import_archive

    with progress.progress_bar(messages(quiet)) as shown:
        new, before = import_archive(archive, tracking_uri, progress=shown)
    known = f"; {before} were in it before" if before else ""
    output().say(f"put {new} runs into {store_uri(tracking_uri)}{known}")
