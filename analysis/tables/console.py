"""Comparison tables on the terminal, in as many panels as its width asks for."""

from __future__ import annotations

import io
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.results.columns import Column
from analysis.tables.cells import cell_text, interval_text
from analysis.tables.notes import BOLD, STAR
from analysis.tables.table import Cell, Row, Table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text


LEAST_LABEL = 24  # characters that labels keep where they are broken so that all columns fit
_INDENT = "  "  # of the further lines of a label
_STYLES = {"best": "bold", "worse": "dim"}  # by mark


def console(table: Table, width: int, *, bold: bool = True) -> Group:
    """For a terminal `width` characters wide: columns that don't fit side by side follow below.

    Long labels are broken between words where all columns fit side by side then.

    bold: whether bold letters can be seen. Where they cannot, as in a file, `*` marks the best.
    """
    from rich.console import Group
    from rich.text import Text

    if not bold:
        table = _with_stars(table)
    labels = _label_width(table, width)
    panels: list[list[int]] = []
    for place in range(len(table.columns)):
        if panels and labels + _columns_width(table, [*panels[-1], place]) <= width:
            panels[-1].append(place)
        else:
            panels.append([place])
    parts: list[Text | RichTable] = [Text(table.title, style="bold")]
    for index, places in enumerate(panels):
        parts += [Text(), *_panel(table, places, labels, messages=index == 0)]
    parts += [Text(), *[Text(line, style="dim") for line in table.caption]]
    parts += [Text(f"Note. {line}") for line in table.notes]
    return Group(*parts)


def _with_stars(table: Table) -> Table:
    """The table with a star in place of bold letters, in cells and caption."""

    def starred(row: Row) -> Row:
        cells = tuple(replace(cell, mark="starred") if cell.mark == "best" else cell for cell in row.cells)
        return replace(row, cells=cells)

    sections = tuple(replace(one, rows=tuple(starred(row) for row in one.rows)) for one in table.sections)
    return replace(
        table, sections=sections, caption=tuple(line.replace(BOLD, STAR) for line in table.caption)
    )


def _label_width(table: Table, width: int) -> int:
    """Characters of the column of labels on a terminal `width` characters wide."""
    labels = [table.head, *[row.label for row in table.rows]]
    longest = max(len(label) for label in labels)
    left = width - _columns_width(table, list(range(len(table.columns))))
    words = max(len(word) for label in labels for word in label.split() or [""]) + len(_INDENT)
    return left if max(words, LEAST_LABEL, len(table.head)) <= left < longest else longest


def _label(label: str, width: int) -> str:
    """A label in lines of at most `width` characters."""
    if len(label) <= width:
        return label
    return "\n".join(textwrap.wrap(label, width, subsequent_indent=_INDENT, break_on_hyphens=False))


def _column_width(table: Table, place: int) -> int:
    lines = [*_console_header(table.columns[place]).split("\n")]
    for row in table.rows:
        if not row.message:
            lines += _console_cell(row.cells[place], table.columns[place], table.intervals).split("\n")
    return max(len(line) for line in lines)


def _columns_width(table: Table, places: list[int]) -> int:
    return sum(2 + _column_width(table, place) for place in places)


def _panel(table: Table, places: list[int], labels: int, *, messages: bool) -> list[Text | RichTable]:
    """Make a rich table for each section, of equal column widths: rich has no cells that span columns.

    labels: the width of the column of labels.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    def grid(*, header: bool) -> RichTable:
        view = RichTable(
            box=box.SIMPLE_HEAD if header else None,
            show_header=header,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0) if header else (0, 2, 0, 0),
        )
        view.add_column(table.head, width=labels, no_wrap=True)
        for place in places:
            head = Text(_console_header(table.columns[place]))
            view.add_column(head, width=_column_width(table, place), justify="right", no_wrap=True)
        return view

    parts: list[Text | RichTable] = [grid(header=True)]
    for section in table.sections:
        shown = [row for row in section.rows if not row.message]
        told = [row for row in section.rows if row.message] if messages else []
        if shown or told:
            parts.append(Text(f"{section.title}", style="italic"))
        if shown:
            view = grid(header=False)
            for row in shown:
                cells = [
                    _console_cell(row.cells[place], table.columns[place], table.intervals) for place in places
                ]
                marks = [_STYLES.get(row.cells[place].mark, "") for place in places]
                view.add_row(
                    Text(_label(row.label, labels)),
                    *[Text(cell, style=mark) for cell, mark in zip(cells, marks, strict=True)],
                )
            parts.append(view)
        parts += [Text(f"{row.label.ljust(labels)}  {row.message}") for row in told]
    return parts


def _console_header(column: Column) -> str:
    return f"{column.name}\n{column.unit}" if column.unit else column.name


def _console_cell(cell: Cell, column: Column, intervals: str) -> str:
    interval = interval_text(cell, column, intervals)
    if not interval:
        return cell_text(cell, column)
    return cell_text(cell, column) + ("\n" if intervals == "range" else " ") + interval


def console_text(table: Table, width: int) -> str:
    """Text that `print_table` writes into a file of that width, without trailing spaces."""
    from rich.console import Console

    sink = Console(width=width, file=io.StringIO(), color_system=None, legacy_windows=False)
    sink.print(console(table, width, bold=False), end="")
    text = sink.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def print_table(table: Table) -> None:
    """Print a table to the terminal, fitted to its width."""
    from rich.console import Console

    terminal = Console(highlight=False)
    width = terminal.width if terminal.is_terminal else max(terminal.width, 160)
    terminal.width = width
    terminal.print(console(table, width, bold=terminal.is_terminal and not terminal.is_dumb_terminal))
