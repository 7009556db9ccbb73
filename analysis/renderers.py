"""Render a `Table`: console, Markdown, CSV, LaTeX, HTML."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING

from analysis.columns import Column
from analysis.tables import Cell, Row, Table

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

MISSING = "—"
# No wider than the page, and never blown up to it.
_FIT = "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}"
GROUP_TITLES = {"rate": "Rate", "use": "Codebook use", "quality": "Quality", "cost": "Cost"}


def number(value: float, digits: int) -> str:
    """Fixed decimals, without a negative zero; scientific where they would all be lost."""
    text = f"{value:.{digits}f}"
    if value != 0 and not text.strip("-0."):
        return f"{value:.1e}" if digits else f"{value:.1g}"
    return text


def cell_text(cell: Cell, column: Column) -> str:
    """The value alone, after `~` where it can't be told from the best."""
    if cell.value is None:
        return cell.text or MISSING
    return ("~" if cell.mark == "tied" else "") + number(cell.value, column.digits)


def interval_text(cell: Cell, column: Column, intervals: str) -> str:
    """The interval as `± half-width` or, for `range`, as `[low, high]`; nothing without one.

    A half-width that the column's digits would show as zero gets as many as it needs.
    """
    if cell.low is None or cell.high is None:
        return ""
    if intervals == "range":
        return f"[{number(cell.low, column.digits)}, {number(cell.high, column.digits)}]"
    half = (cell.high - cell.low) / 2
    needed = -math.floor(math.log10(half)) if half > 0 else 0
    return f"± {half:.{max(column.digits, min(needed, 6))}f}"


def header_text(column: Column) -> str:
    """`PESQ ↑ (MOS-LQO)`."""
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.header}{' ' + column.arrow if column.arrow else ''}{unit}"


def console(table: Table, width: int) -> Group:
    """For a terminal `width` characters wide: column groups that don't fit side by side follow below."""
    from rich.console import Group
    from rich.text import Text

    panels: list[list[int]] = []
    for group in dict.fromkeys(column.group for column in table.columns):
        places = [place for place, column in enumerate(table.columns) if column.group == group]
        if panels and _panel_width(table, panels[-1] + places) <= width:
            panels[-1] += places
        else:
            panels.append(places)
    parts: list[Text | RichTable] = [Text(table.title, style="bold")]
    for index, places in enumerate(panels):
        parts += [Text(), *_panel(table, places, messages=index == 0)]
    parts += [Text(), *[Text(line, style="dim") for line in table.caption]]
    parts += [Text(f"Note. {line}") for line in table.notes]
    return Group(*parts)


def _label_width(table: Table) -> int:
    return max(len(label) for label in ["quantizer", *[row.label for row in table.rows]])


def _column_width(table: Table, place: int) -> int:
    lines = [*_console_header(table.columns[place]).split("\n")]
    for row in table.rows:
        if not row.message:
            lines += _console_cell(row.cells[place], table.columns[place], table.intervals).split("\n")
    return max(len(line) for line in lines)


def _panel_width(table: Table, places: list[int]) -> int:
    return _label_width(table) + sum(2 + _column_width(table, place) for place in places)


def _panel(table: Table, places: list[int], *, messages: bool) -> list[Text | RichTable]:
    """One rich table a section, of equal column widths: rich has no cells that span columns."""
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
        view.add_column("quantizer", width=_label_width(table), no_wrap=True)
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
                marks = ["bold" if row.cells[place].mark else "" for place in places]
                view.add_row(
                    Text(row.label),
                    *[Text(cell, style=mark) for cell, mark in zip(cells, marks, strict=True)],
                )
            parts.append(view)
        parts += [Text(f"{row.label.ljust(_label_width(table))}  {row.message}") for row in told]
    return parts


def _console_header(column: Column) -> str:
    unit = f"\n{column.unit}" if column.unit else ""
    return f"{column.header}{' ' + column.arrow if column.arrow else ''}{unit}"


def _console_cell(cell: Cell, column: Column, intervals: str) -> str:
    interval = interval_text(cell, column, intervals)
    if not interval:
        return cell_text(cell, column)
    return cell_text(cell, column) + ("\n" if intervals == "range" else " ") + interval


def markdown(table: Table) -> str:
    """GitHub-flavoured; the title of each section is a row of its own."""
    lines = [f"**{_md(table.title)}**", ""]
    head = ["quantizer", *[header_text(column) for column in table.columns]]
    lines.append("| " + " | ".join(_md(text) for text in head) + " |")
    lines.append("|:--" + "|--:" * len(table.columns) + "|")
    for section in table.sections:
        lines.append("| *" + _md(section.title) + "* " + "| " * len(table.columns) + "|")
        for row in section.rows:
            cells = [
                f"**{_md(text)}**" if cell.mark else _md(text)
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
    """One line a row at full precision, intervals in columns of their own, and no formatting."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["quantizer", "section"]
    for column in table.columns:
        name = f"{column.key} ({column.unit})" if column.unit else column.key
        extra = [f"{column.key}_{end}" for end in ("low", "high", "mark")] if column.interval else []
        head += [name, *extra]
    writer.writerow([*head, "message"])
    for section in table.sections:
        for row in section.rows:
            line: list[object] = [row.label, section.title]
            for cell, column in zip(row.cells, table.columns, strict=True):
                ends: list[object] = [cell.low, cell.high, cell.mark] if column.interval else []
                line += ["" if value is None else value for value in [cell.text or cell.value, *ends]]
            writer.writerow([*line, row.message])
    return stream.getvalue()


def latex(table: Table) -> str:
    """A `table*` with booktabs; needs `\\usepackage{booktabs,graphicx}`."""
    width = len(table.columns) + 1
    lines = [
        "% Needs \\usepackage{booktabs,graphicx}",
        "\\begin{table*}[tp]",
        "\\centering",
        "\\caption{" + " ".join(tex(line) for line in [table.title + ".", *table.caption]) + "}",
        f"\\label{{tab:{table.name}}}",
        "\\vspace{4pt}",
        f"{_FIT}{{%",
        "\\begin{tabular}{l" + "r" * len(table.columns) + "}",
        "\\toprule",
    ]
    spans, start = [], 2
    titles = [""]
    for group, columns in groupby(table.columns, key=lambda column: column.group):
        count = len(list(columns))
        titles.append(f"\\multicolumn{{{count}}}{{c}}{{{GROUP_TITLES[group]}}}")
        spans.append(f"\\cmidrule(lr){{{start}-{start + count - 1}}}")
        start += count
    lines += [" & ".join(titles) + " \\\\", " ".join(spans)]
    heads = [tex(f"{column.header} {column.arrow}".strip()) for column in table.columns]
    units = [tex(f"({column.unit})") if column.unit else "" for column in table.columns]
    lines += [" & ".join(["Quantizer", *heads]) + " \\\\", " & ".join(["", *units]) + " \\\\"]
    for section in table.sections:
        lines.append("\\midrule")
        lines.append(f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{tex(section.title)}}}}} \\\\")
        for row in section.rows:
            if row.message:
                body = f"\\multicolumn{{{width - 1}}}{{l}}{{{tex(row.message)}}}"
            else:
                body = " & ".join(
                    _tex_cell(cell, column, table.intervals)
                    for cell, column in zip(row.cells, table.columns, strict=True)
                )
            lines.append(f"{tex(row.label)} & {body} \\\\")
    lines += ["\\bottomrule", "\\end{tabular}}"]
    if table.notes:
        lines.append("\\\\[2pt] {\\footnotesize " + " ".join(tex(note) + "." for note in table.notes) + "}")
    lines.append("\\end{table*}")
    return "\n".join(lines) + "\n"


def frame_latex(frame: pd.DataFrame, name: str, caption: str) -> str:
    """A frame of texts as a `table`; a value of the first column that repeats the one above is left out."""
    lines = [
        "% Needs \\usepackage{booktabs,graphicx}",
        "\\begin{table}[tp]",
        "\\centering",
        f"\\caption{{{tex(caption)}}}",
        f"\\label{{tab:{name}}}",
        "\\vspace{4pt}",
        f"{_FIT}{{%",
        "\\begin{tabular}{" + "l" * len(frame.columns) + "}",
        "\\toprule",
        " & ".join(tex(str(column)) for column in frame.columns) + " \\\\",
    ]
    above = None
    for row in frame.itertuples(index=False):
        first, *rest = [tex(str(value)) for value in row]
        if first != above:
            lines.append("\\midrule")
        lines.append(" & ".join(["" if first == above else first, *rest]) + " \\\\")
        above = first
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}}", "\\end{table}"]) + "\n"


def _tex_cell(cell: Cell, column: Column, intervals: str) -> str:
    value, interval = cell_text(cell, column), interval_text(cell, column, intervals).replace("±", "$\\pm$")
    value = "---" if value == MISSING else tex(value)
    value = f"\\textbf{{{value}}}" if cell.mark else value
    return f"{value} {{\\scriptsize {interval}}}" if interval else value


_TEX = {
    "\\": "\\textbackslash{}",
    "&": "\\&",
    "%": "\\%",
    "$": "\\$",
    "#": "\\#",
    "_": "\\_",
    "{": "\\{",
    "}": "\\}",
    "~": "$\\sim$",
    "^": "\\textasciicircum{}",
    "|": "\\textbar{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "[": "{[}",  # a bracket at the start of a row would be read as an argument of \\
    "]": "{]}",
    "↑": "$\\uparrow$",
    "↓": "$\\downarrow$",
    "—": "---",
    "–": "--",
    "±": "$\\pm$",
    "−": "$-$",
}


def tex(text: str) -> str:
    """`text` with everything that LaTeX would read as a command made plain."""
    return "".join(_TEX.get(character, character) for character in " ".join(text.split()))


def web(table: Table) -> str:
    """A `<table>` with a caption; every text is escaped."""
    lines = ['<table class="comparison">', "<caption>"]
    lines.append(f"<strong>{html.escape(table.title)}</strong>")
    lines += [f"<p>{html.escape(line)}</p>" for line in table.caption]
    lines += ["</caption>", "<thead>", "<tr>", '<th scope="col">quantizer</th>']
    for column in table.columns:
        lines.append(f'<th scope="col">{html.escape(header_text(column))}</th>')
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
    return f"<td{data}>{f'<strong>{value}</strong>' if cell.mark else value}{small}</td>"


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


def console_text(table: Table, width: int) -> str:
    """What `print_table` prints on a terminal of that width, without colours or trailing spaces."""
    from rich.console import Console

    sink = Console(width=width, file=io.StringIO(), color_system=None, legacy_windows=False)
    sink.print(console(table, width), end="")
    text = sink.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def print_table(table: Table) -> None:
    """Print to the terminal, as wide as it is."""
    from rich.console import Console

    terminal = Console(highlight=False)
    width = terminal.width if terminal.is_terminal else max(terminal.width, 160)
    terminal.width = width
    terminal.print(console(table, width))
