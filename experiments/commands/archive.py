"""Commands that take studies out of a tracking store as one file, and put them into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.results import StoreOption


def export(
    studies: Annotated[list[str], typer.Argument(help="names of studies")],
    output: Annotated[Path | None, typer.Option(help="file to write; default FIRST-STUDY.zip")] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(help="latents, snapshots, slices, audio: large, or licensed as the corpus is"),
    ] = None,
    histories: Annotated[bool, typer.Option(help="with learning curves")] = True,
    tracking_uri: StoreOption = None,
) -> None:
    """Write what tables and figures of studies are made from into one file, without weights."""
    from analysis.results.archive import export_studies

    path = output or Path(f"{studies[0]}.zip")
    number = export_studies(studies, path, tracking_uri, extras=extra or (), histories=histories)
    typer.echo(f"wrote {number} runs to {path}, {path.stat().st_size / 1e6:.1f} MB")


def import_(
    archive: Annotated[Path, typer.Argument(help="file of `codecbench export`")],
    tracking_uri: StoreOption = None,
) -> None:
    """Put the studies of an exported file into a tracking store, for tables, figures and reports."""
    from analysis.results.archive import import_archive
    from experiments.tracking.store import store_uri

    new, before = import_archive(archive, tracking_uri)
    known = f"; {before} were there" if before else ""
    typer.echo(f"put {new} runs into {store_uri(tracking_uri)}{known}")
