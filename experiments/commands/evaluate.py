"""`codecbench evaluate`: scores of decoded audio in any folders, or of a reference codec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import messages
from experiments.commands.guard import FAILED
from experiments.commands.options import (
    Metrics,
    OutputFormat,
    Quiet,
    TrackingUri,
    Workers,
    file_name,
    names_of,
    number,
)

_SUFFIXES = (".csv", ".parquet")


def evaluate(
    reference_dir: Annotated[Path, typer.Argument(metavar="REFERENCE", help="folder of original recordings")],
    reconstructed_dirs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DECODED", help="folders of decoded audio; several are compared in one table"),
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODEC",
            help="reference codec to score, such as opus:12000 (codecbench list references); repeatable",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="name of each system, in order; default: the name of its folder; repeatable"
        ),
    ] = None,
    bitrate: Annotated[
        list[float] | None,
        typer.Option(
            parser=number(0, above=True), metavar="BIT/S", help="bitrate of each folder, in order; repeatable"
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="STUDY", help="add the systems as references to the table of this study"),
    ] = None,
    tracking_uri: TrackingUri = None,
    metrics: Metrics = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV of paired files with the columns reference, reconstruction [, name]"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            parser=file_name, metavar="FILE", help="write the score of every utterance: .csv or .parquet"
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(parser=file_name, metavar="FILE", help="write means and intervals: .csv or .parquet"),
    ] = None,
    format: OutputFormat = "console",
    quiet: Quiet = False,
    workers: Workers = None,
    reference_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="folder that keeps values computed from the references for the next call"
        ),
    ] = None,
) -> None:
    """Score decoded audio of any codec against the original recordings."""
    metric_names = None if metrics is None else names_of(metrics, "--metrics")
    outputs.check_file(output, "--output", _SUFFIXES)
    outputs.check_file(summary, "--summary", _SUFFIXES)
    if output is not None and summary is not None and output.resolve() == summary.resolve():
        raise typer.BadParameter(
            f"{summary} is also the file of --output; give another one", param_hint="--summary"
        )
    if reference_cache is not None:
        outputs.check_folder(reference_cache, "--reference-cache")

    from experiments.commands import scoring

    systems = scoring.systems_of(reconstructed_dirs or [], codec or [], name, bitrate)
    scores = scoring.score_systems(
        systems,
        reference_dir,
        metric_names,
        pairs=pairs,
        study=scoring.target_study(study, tracking_uri),
        workers=workers,
        reference_cache=reference_cache,
        quiet=quiet,
    )
    scoring.show(scores, format)
    scoring.write(scores, output, summary)
    if not scores.scored:
        messages().say(("nothing could be scored", "red"), "; the reasons are below the table")
        raise typer.Exit(FAILED)
