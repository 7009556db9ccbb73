"""The work of `codecbench leaderboard`: compute it, and write it as a page, JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer

from analysis.reports.leaderboard import write_leaderboard
from analysis.results.load import load
from analysis.results.spreadsheet import plain
from analysis.tables import published as papers
from analysis.tables.leaderboard import Leaderboard, leaderboard
from experiments.commands import outputs
from experiments.commands.display.terminal import Console, messages, output
from experiments.commands.documents import document
from experiments.commands.documents.leaderboards import leaderboard_document


def compute(
    names: Sequence[str],
    tracking_uri: str | None,
    edges: Sequence[float],
    console: Console,
    *,
    published: bool,
) -> Leaderboard:
    """The leaderboard of studies. Raises ResultsError, LeaderboardError, TrackingError."""
    tables = [papers.load(name) for name in papers.available()] if published else []
    with console.status("comparing") if console.shows_progress else nullcontext():
        return leaderboard([load(name, tracking_uri) for name in names], tables, edges)


def write(board: Leaderboard, format: str, place: Path | None, title: str) -> None:
    """Write a leaderboard in a format to `place`, or, but for html, to stdout. Raises OutputError."""
    if format == "html":
        assert place is not None
        output().say(f"wrote {write_leaderboard(board, place, title)}", to_copy=True)
        return
    text = _csv(board) if format == "csv" else document.text_of(leaderboard_document(board)) + "\n"
    if place is None:
        typer.echo(text, nl=False)
    elif problem := outputs.save(place, lambda path: path.write_text(text, encoding="utf-8")):
        raise outputs.OutputError(problem)
    else:
        messages().say(f"wrote {place}")


def _csv(board: Leaderboard) -> str:
    """A line for each row of the page, at full precision. No text begins a formula."""
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
