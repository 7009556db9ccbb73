"""`codecbench evaluate`: scores of decoded audio in any folders, or of a reference codec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import messages
from experiments.commands.guard import FAILED
from experiments.commands.options import (
    Device,
    Metrics,
    OutputFormat,
    Quiet,
    TrackingUri,
    Workers,
    chosen_device,
    file_name,
    names_of,
    number,
)

_SUFFIXES = (".csv", ".parquet")


def evaluate(
    reference_dir: Annotated[Path, typer.Argument(help="folder of original recordings")],
    reconstructed_dirs: Annotated[
        list[Path] | None,
        typer.Argument(help="folder of decoded audio; several are compared in one table"),
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(help="a reference codec instead of a folder, such as opus:12000 (list references)"),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="name of each system; default the folder's name")
    ] = None,
    bitrate: Annotated[
        list[float] | None,
        typer.Option(parser=number(0, above=True), metavar="BIT/S", help="bit/s of each folder's system"),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="put the rows into this study's table, as references")
    ] = None,
    tracking_uri: TrackingUri = None,
    metrics: Metrics = None,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV with the columns reference, reconstruction [, name]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(parser=file_name, metavar="FILE", help="every score, as .csv or .parquet"),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(parser=file_name, metavar="FILE", help="the aggregates, likewise")
    ] = None,
    format: OutputFormat = "console",
    quiet: Quiet = False,
    workers: Workers = None,
    device: Device = "auto",
    reference_cache: Annotated[
        Path | None, typer.Option(help="folder to keep what is computed from the references in")
    ] = None,
) -> None:
    """Score decoded audio against the originals, so that any codec gets a comparable row."""
    metric_names = None if metrics is None else names_of(metrics, "--metrics")
    outputs.check_file(output, "--output", _SUFFIXES)
    outputs.check_file(summary, "--summary", _SUFFIXES)
    if output is not None and summary is not None and output.resolve() == summary.resolve():
        raise typer.BadParameter(
            f"{summary} is the file of --output, too; give another", param_hint="--summary"
        )
    if reference_cache is not None:
        outputs.check_folder(reference_cache, "--reference-cache")

    from experiments.commands import scoring

    place = chosen_device(device) if codec or device != "auto" else "cpu"
    systems = scoring.systems_of(reconstructed_dirs or [], codec or [], name, bitrate)
    scores = scoring.score_systems(
        systems,
        reference_dir,
        metric_names,
        pairs=pairs,
        study=scoring.target_study(study, tracking_uri),
        workers=workers,
        device=place,
        reference_cache=reference_cache,
        quiet=quiet,
    )
    scoring.show(scores, format)
    scoring.write(scores, output, summary)
    if not scores.scored:
        messages().say(("nothing could be scored", "red"), "; the reasons are below the table")
        raise typer.Exit(FAILED)
