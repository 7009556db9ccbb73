"""`codecbench leaderboard`: rows of many studies in bands of bitrate, as a page or for programs."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import messages, output
from experiments.commands.options import Quiet, TrackingUri

if TYPE_CHECKING:
    from analysis.tables.leaderboard import Leaderboard

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

    from analysis import load
    from analysis.tables import published as papers
    from analysis.tables.leaderboard import leaderboard as compute

    tables = [papers.load(name) for name in papers.available()] if published else []
    names = list(dict.fromkeys(studies))
    console = messages(quiet)
    with console.status("comparing") if console.shows_progress else _nothing():
        board = compute([load(name, tracking_uri) for name in names], tables, edges)
    if format == "html":
        from analysis.reports.leaderboard import write_leaderboard

        output().say(f"wrote {write_leaderboard(board, place or PAGE, title)}", to_copy=True)
        return
    text = _csv(board) if format == "csv" else _json(board)
    if place is None:
        typer.echo(text, nl=False)
    elif problem := outputs.save(place, lambda path: path.write_text(text, encoding="utf-8")):
        raise outputs.OutputError(problem)
    else:
        messages().say(f"wrote {place}")


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def _edges(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: give numbers of kbit/s, such as 0.5,1,2,4,8", param_hint="--bands"
        ) from None


def _json(board: Leaderboard) -> str:
    from experiments.commands.documents import document
    from experiments.commands.documents.leaderboards import leaderboard_document

    return document.text_of(leaderboard_document(board)) + "\n"


def _csv(board: Leaderboard) -> str:
    """A line for each row of the page, at full precision. No text begins a formula."""
    from analysis.results.spreadsheet import plain

    metrics = list(dict.fromkeys(m for band in board.bands for one in band.boards for m in one.metrics))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    about = ["band", "corpus", "corpus_hash", "protocol", "backbone", "training", "level_bitrate"]
    row_names = ["label", "quantizer", "start", "studies", "seeds", "bitrate"]
    scores = [f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high", "_mark")]
    writer.writerow([*about, *row_names, *scores])
    for band in board.bands:
        for one in band.boards:
            for level in one.levels:
                for row in level.rows:
                    cells = [row.cells.get(metric) for metric in metrics]
                    values: list[Any] = [
                        *map(plain, (band.title, one.corpus, one.corpus_hash, one.protocol)),
                        *map(plain, (one.backbone, one.training)),
                        level.bitrate,
                        *map(plain, (row.label, row.quantizer, row.start, ", ".join(row.studies))),
                        *(row.seeds, row.bitrate),
                    ]
                    for cell in cells:
                        values += [cell.value, cell.low, cell.high, cell.mark] if cell else [None] * 4
                    writer.writerow(["" if value is None or value != value else value for value in values])
    return stream.getvalue()
