"""Render a `Table`: console, Markdown, CSV, LaTeX, HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from analysis.results.columns import Column
from analysis.results.spreadsheet import plain
from analysis.tables.cells import cell_text, interval_text
from analysis.tables.console import console_text
from analysis.tables.latex import latex
from analysis.tables.table import Cell, Row, Table

if TYPE_CHECKING:
    import pandas as pd


def markdown(table: Table) -> str:
    """GitHub-flavoured; the title of each section is a row of its own."""
    lines = [f"**{_md(table.title)}**", ""]
    head = [table.head, *[column.title for column in table.columns]]
    lines.append("| " + " | ".join(_md(text) for text in head) + " |")
    lines.append("|:--" + "|--:" * len(table.columns) + "|")
    for section in table.sections:
        lines.append("| *" + _md(section.title) + "* " + "| " * len(table.columns) + "|")
        for row in section.rows:
            cells = [
                f"**{_md(text)}**" if cell.mark == "best" else _md(text)
                for text, cell in zip(_flat(row, table), row.cells, strict=True)
            ]
            lines.append("| " + " | ".join([_md(row.label), *cells]) + " |")
    lines += ["", *[_md(line) for line in table.caption]]
    lines += [f"- {_md(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def _flat(row: Row, table: Table) -> list[str]:
    if row.message:
        return [row.message, *["" for _ in table.columns[1:]]]
    texts = []
    for cell, column in zip(row.cells, table.columns, strict=True):
        interval = interval_text(cell, column, table.intervals)
        texts.append(cell_text(cell, column) + (f" {interval}" if interval else ""))
    return texts


def _md(text: str) -> str:
    for character in "\\|*_<>`[]~":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def comma_separated(table: Table) -> str:
    """CSV with a line a row at full precision, intervals in columns of their own, and no formatting.

    No text begins a formula.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = [table.head, "section"]
    for column in table.columns:
        name = f"{column.key} ({column.unit})" if column.unit else column.key
        extra = [f"{column.key}_{end}" for end in ("low", "high", "mark")] if column.interval else []
        head += [name, *extra]
    writer.writerow([*head, "message"])
    for section in table.sections:
        for row in section.rows:
            line: list[object] = [plain(row.label), plain(section.title)]
            for cell, column in zip(row.cells, table.columns, strict=True):
                ends: list[object] = [cell.low, cell.high, cell.mark] if column.interval else []
                line += ["" if value is None else value for value in [plain(cell.text) or cell.value, *ends]]
            writer.writerow([*line, plain(row.message)])
    return stream.getvalue()


def web(table: Table) -> str:
    """A `<table>` with a caption; every text is escaped."""
    lines = ['<table class="comparison">', "<caption>"]
    lines.append(f"<strong>{html.escape(table.title)}</strong>")
    lines += [f"<p>{html.escape(line)}</p>" for line in table.caption]
    lines += ["</caption>", "<thead>", "<tr>", f'<th scope="col">{html.escape(table.head)}</th>']
    for column in table.columns:
        lines.append(f'<th scope="col">{html.escape(column.title)}</th>')
    lines += ["</tr>", "</thead>"]
    span = len(table.columns) + 1
    for section in table.sections:
        lines += [
            "<tbody>",
            f'<tr class="section"><th colspan="{span}">{html.escape(section.title)}</th></tr>',
        ]
        for row in section.rows:
            cells = [f'<th scope="row">{html.escape(row.label)}</th>']
            if row.message:
                cells.append(f'<td colspan="{span - 1}">{html.escape(row.message)}</td>')
            else:
                cells += [
                    _html_cell(c, k, table.intervals) for c, k in zip(row.cells, table.columns, strict=True)
                ]
            lines.append("<tr>" + "".join(cells) + "</tr>")
        lines.append("</tbody>")
    lines.append("</table>")
    if table.notes:
        lines += ["<ul>", *[f"<li>{html.escape(note)}</li>" for note in table.notes], "</ul>"]
    return "\n".join(lines) + "\n"


def frame_web(frame: pd.DataFrame) -> str:
    """A frame of texts as a `<table>`; every text is escaped."""
    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in frame.columns)
    rows = [
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in frame.itertuples(index=False)
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _html_cell(cell: Cell, column: Column, intervals: str) -> str:
    data = "" if cell.value is None else f' data-value="{cell.value!r}"'
    interval = interval_text(cell, column, intervals)
    small = f" <small>{html.escape(interval)}</small>" if interval else ""
    value = html.escape(cell_text(cell, column))
    return f"<td{data}>{f'<strong>{value}</strong>' if cell.mark == 'best' else value}{small}</td>"


FORMATS: dict[str, Callable[[Table], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
    "html": web,
}
SUFFIXES = {"markdown": "md", "csv": "csv", "latex": "tex", "html": "html"}


class FormatError(ValueError):
    """An unknown table format."""


def render(table: Table, kind: str) -> str:
    """The table as text in one of `FORMATS`, or as `console` text 160 characters wide without colours.

    Raises:
        FormatError: unknown format.
    """
    if kind == "console":
        return console_text(table, 160)
    if kind not in FORMATS:
        raise FormatError(f"unknown table format {kind!r}; known: console, {', '.join(FORMATS)}")
    return FORMATS[kind](table)
