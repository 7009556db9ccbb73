"""The page of a leaderboard: one static file in the style of the reports, sortable without a network."""

from __future__ import annotations

import html
import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from analysis.reports.output_folder import OutputError, kinds, prepare_output
from analysis.reports.page import beside, policy
from analysis.results.columns import COLUMNS, quality_column
from analysis.tables.cells import MISSING, cell_text, interval_text, number
from analysis.tables.leaderboard import Band, Board, Leaderboard, Level, Standing
from analysis.tables.published import WARNING, Published
from analysis.tables.table import Cell
from experiments.common.plain_words import counted

KIND = "leaderboard"
_RATE = COLUMNS["bitrate"]
_TEXTS, _TEXT = ("quantizer", "start", "studies"), ' class="text"'


def write_leaderboard(board: Leaderboard, output: Path, title: str = "Leaderboard") -> Path:
    """Write `output/index.html`; the page. Raises OutputError where somebody else's page lies there."""
    if (output / "index.html").exists() and KIND not in kinds(output):
        raise OutputError(
            f"{output / 'index.html'} was not written by `codecbench leaderboard`. Remedy: choose another "
            "folder with --output"
        )
    output.mkdir(parents=True, exist_ok=True)
    prepare_output(output, KIND, ())
    path = output / "index.html"
    path.write_text(page(board, title), encoding="utf-8")
    return path


def page(board: Leaderboard, title: str = "Leaderboard") -> str:
    """The page as HTML; every text is escaped."""
    script, sheet = beside("sorting.js"), beside("report.css") + beside("leaderboard.css")
    papers = {paper.name: paper for paper in board.papers}
    contents = [
        f'<a href="#band-{place}">{html.escape(band.title)}</a>' for place, band in enumerate(board.bands)
    ]
    return Template(beside("leaderboard.html")).substitute(
        policy=policy(script, sheet),
        script=script,
        style=sheet,
        title=html.escape(title),
        summary=_summary(board),
        contents=" · ".join(contents),
        bands="\n".join(_band(place, band, papers) for place, band in enumerate(board.bands)),
        papers=_papers(board.papers),
        studies=html.escape(", ".join(board.studies)),
    )


def _summary(board: Leaderboard) -> str:
    rows = [row for band in board.bands for one in band.boards for level in one.levels for row in level.rows]
    corpora = {one.corpus_hash for band in board.bands for one in band.boards}
    text = (
        f"{counted(len(rows), 'row')} of {counted(len(board.studies), 'study', 'studies')} on "
        f"{counted(len(corpora), 'corpus', 'corpora')}, in bands of nominal bitrate."
    )
    if board.papers:
        text += f" Numbers of {counted(len(board.papers), 'paper table')} stand in grey and are not ranked."
    if board.left_out:
        text += f" {counted(board.left_out, 'number')} of papers that nobody has checked are left out."
    return f"<p>{html.escape(text)}</p>"


def _band(place: int, band: Band, papers: Mapping[str, Published]) -> str:
    parts = [f'<h2 id="band-{place}">{html.escape(band.title)}</h2>']
    parts += [_board(board) for board in band.boards]
    parts += [_published(papers[name], cells) for name, cells in band.published.items()]
    return "\n".join(parts)


def _board(board: Board) -> str:
    columns = [quality_column(metric) for metric in board.metrics]
    trained = (
        f"{board.backbone}; {board.training}" if board.backbone else "Codecs from outside, not trained here"
    )
    speech = "synthetic speech" if board.synthetic else "recorded audio"
    corpus = f"{board.corpus} ({speech}, {board.corpus_hash[:12]}), evaluation protocol {board.protocol}"
    heads = [
        "system",
        _RATE.title,
        *(column.title for column in columns),
        "quantizer",
        "start",
        "seeds",
        "studies",
    ]
    lines = [
        '<div class="scroll" tabindex="0" role="region" aria-label="comparison">',
        '<table class="comparison">',
        f"<caption><strong>{html.escape(corpus)}</strong><p>{html.escape(trained)}</p></caption>",
        "<thead><tr>",
        *(f'<th scope="col"{_TEXT if head in _TEXTS else ""}>{html.escape(head)}</th>' for head in heads),
        "</tr></thead>",
        *(_level(level, board.metrics, len(heads)) for level in board.levels),
        "</table></div>",
    ]
    return "\n".join(lines)


def _level(level: Level, metrics: Sequence[str], span: int) -> str:
    rate = f"at {level.bitrate / 1000:.2f} kbit/s" if level.bitrate > 0 else "no bits spent"
    note = "" if level.comparable else ": nothing to compare with here"
    rows = "\n".join(_row(row, metrics) for row in level.rows)
    title = html.escape(rate + note)
    return f'<tbody><tr class="section"><th colspan="{span}">{title}</th></tr>\n{rows}</tbody>'


def _row(row: Standing, metrics: Sequence[str]) -> str:
    rate = number(row.bitrate * _RATE.scale, _RATE.digits) if row.bitrate > 0 else MISSING
    data = f' data-value="{row.bitrate!r}"' if math.isfinite(row.bitrate) else ""
    studies = html.escape(", ".join(row.studies))
    cells = [
        f'<th scope="row">{html.escape(row.label)}</th>',
        f"<td{data}>{rate}</td>",
        *(_cell(row.cells.get(metric, Cell()), metric) for metric in metrics),
        *(f'<td class="text">{html.escape(text) or MISSING}</td>' for text in (row.quantizer, row.start)),
        f'<td data-value="{row.seeds}">{row.seeds}</td>',
        f'<td class="text several">{studies}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(cell: Cell, metric: str) -> str:
    column = quality_column(metric)
    data = "" if cell.value is None else f' data-value="{cell.value!r}"'
    interval = interval_text(cell, column, "plus-minus")
    small = f" <small>{html.escape(interval)}</small>" if interval else ""
    value = html.escape(cell_text(cell, column))
    return f"<td{data}>{f'<strong>{value}</strong>' if cell.mark == 'best' else value}{small}</td>"


def _published(paper: Published, cells: pd.DataFrame) -> str:
    """Rows of a paper, in grey; a confidence follows each number."""
    metrics = list(dict.fromkeys(cells["metric"]))
    heads = ["system", "kbit/s", "tokens/s", *(quality_column(metric).name for metric in metrics)]
    rows = []
    keys = ["system", "bitrate_kbps", "token_rate"]
    for (system, *_), group in cells.groupby(keys, sort=False, dropna=False):
        numbers: list[dict[Hashable, Any]] = group.to_dict("records")
        values = {one["metric"]: one for one in numbers}
        texts = [f'<th scope="row">{html.escape(str(system))}</th>']
        texts += [_plain(numbers[0][key]) for key in ("bitrate_kbps", "token_rate")]
        texts += [
            _plain(values[m]["value"], values[m]["confidence"]) if m in values else _plain(math.nan)
            for m in metrics
        ]
        rows.append(f"<tr>{''.join(texts)}</tr>")
    title = f"Published, not measured here: {paper.about['title']}"
    lines = [
        '<div class="scroll published" tabindex="0" role="region" aria-label="published">',
        '<table class="comparison">',
        f"<caption><strong>{html.escape(title)}</strong></caption>",
        "<thead><tr>",
        *(f'<th scope="col">{html.escape(head)}</th>' for head in heads),
        "</tr></thead>",
        f"<tbody>{''.join(rows)}</tbody>",
        "</table></div>",
    ]
    return "\n".join(lines)


def _papers(papers: Sequence[Published]) -> str:
    """What the published tables are, and how sure their numbers are; nothing without any."""
    if not papers:
        return ""
    parts = ["<h2>Published tables</h2>", f"<p>{html.escape(WARNING)}</p>", "<dl>"]
    for paper in papers:
        about = [paper.about[key] for key in ("source", "note", "confidence") if key in paper.about]
        lines = "".join(f"<dd>{html.escape(line)}</dd>" for line in about)
        parts.append(f"<dt>{html.escape(paper.about['title'])}</dt>{lines}")
    return "\n".join([*parts, "</dl>"])


def _plain(value: float, confidence: str = "") -> str:
    if value != value:
        return f"<td>{MISSING}</td>"
    small = f" <small>{html.escape(confidence)}</small>" if confidence else ""
    return f'<td data-value="{float(value)!r}">{value:g}{small}</td>'
