"""`codecbench leaderboard`: rows of many studies in bands of bitrate, as a page or for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import messages
from experiments.commands.options import Quiet, TrackingUri

PAGE = Path("leaderboard")


def leaderboard(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY", help="names of studies of one store")],
    published: Annotated[
        bool, typer.Option("--published", help="with numbers of papers, in grey and not ranked (not in csv)")
    ] = False,
    bands: Annotated[
        str, typer.Option(metavar="KBIT/S", help="edges of the bands of bitrate, comma-separated")
    ] = "0.5,1,2,4,8",
    format: Annotated[
        Literal["html", "json", "csv"], typer.Option(help="of the output; docs/json.md describes json")
    ] = "html",
    place: Annotated[
        Path | None,
        typer.Option(
            "--output", help="html: folder to write to, default leaderboard; else a file instead of stdout"
        ),
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="heading of the page")] = "Leaderboard",
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Rank rows of several studies by bitrate, corpus and backbone, on one page."""
    edges = _edges(bands)
    if format == "html":
        outputs.check_folder(place or PAGE)
    else:
        outputs.check_file(place)
    if format == "csv" and published:
        raise typer.BadParameter(
            "published numbers are never mixed into csv; use html or json", param_hint="--published"
        )

    from experiments.commands.sharing import leaderboard_output

    names = list(dict.fromkeys(studies))
    board = leaderboard_output.compute(names, tracking_uri, edges, messages(quiet), published=published)
    leaderboard_output.write(board, format, place or (PAGE if format == "html" else None), title)


def _edges(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: give numbers of kbit/s, such as 0.5,1,2,4,8", param_hint="--bands"
        ) from None
