"""Commands that take studies out of a tracking store as one file, and put them into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands import outputs, progress
from experiments.commands.display.terminal import messages, output
from experiments.commands.options import Quiet, TrackingUri, file_name
from experiments.common.plain_words import counted
from experiments.tracking.store import store_uri


def export(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY", help="names of studies in the store")],
    archive: Annotated[
        Path | None,
        typer.Option(
            "--output", parser=file_name, metavar="FILE", help="file to write; default: FIRST-STUDY.zip"
        ),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="add latents, snapshots, slices or audio; they are large, and audio has the licence of the "
            "corpus; repeatable",
        ),
    ] = None,
    histories: Annotated[bool, typer.Option(help="include the learning curves")] = True,
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write the results of studies into one file, without weights."""
    path = archive or outputs.named_after("", studies[0], ".zip")
    outputs.check_file(path)

    from analysis.archive.exporting import export_studies

    with progress.progress_bar(messages(quiet)) as shown:
        number = export_studies(
            studies, path, tracking_uri, extras=extra or (), histories=histories, progress=shown
        )
    output().say(f"wrote {counted(number, 'run')} to {path}, {path.stat().st_size / 1e6:.1f} MB")


def import_(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="file that `codecbench export` wrote")],
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Put exported studies into a tracking store, for tables, figures and reports."""
    from analysis.archive.importing import import_archive

    with progress.progress_bar(messages(quiet)) as shown:
        new, before = import_archive(archive, tracking_uri, progress=shown)
    known = f"; {before} already in it" if before else ""
    output().say(f"put {counted(new, 'run')} into {store_uri(tracking_uri)}{known}")
