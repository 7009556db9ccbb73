"""Comparison tables as LaTeX."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from analysis.results.columns import Column
from analysis.tables.table import Cell, Table

if TYPE_CHECKING:
    import pandas as pd
from analysis.tables.cells import GROUP_TITLES, MISSING, cell_text, interval_text

MOST_ROWS = 40  # of a table on one page

# No wider than the page, and never blown up to it.
_FIT = "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}"


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
    first = tex(table.head.capitalize())
    heads = [tex(column.name) for column in table.columns]
    units = [tex(f"({column.unit})") if column.unit else "" for column in table.columns]
    lines += [
        " & ".join([first, *heads]) + " \\\\",
        " & ".join(["", *units]) + " \\\\",
    ]
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
    """A frame of texts as a `table`, or as a `longtable` over several pages where it has many rows.

    A value of the first column that repeats the one above is left out.
    """
    if len(frame) > MOST_ROWS:
        return _long_latex(frame, name, caption)
    return _frame_table(frame, name, caption)


def _frame_table(frame: pd.DataFrame, name: str, caption: str) -> str:
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
        _head(frame),
        *_rows(frame),
    ]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}}", "\\end{table}"]) + "\n"


def _long_latex(frame: pd.DataFrame, name: str, caption: str) -> str:
    lines = [
        "% Needs \\usepackage{booktabs,longtable}",
        "{\\footnotesize\\setlength{\\tabcolsep}{4pt}",
        "\\begin{longtable}{" + "l" * len(frame.columns) + "}",
        f"\\caption{{{tex(caption)}}}\\label{{tab:{name}}} \\\\",
        "\\toprule",
        _head(frame),
        "\\endfirsthead",
        "\\toprule",
        _head(frame),
        "\\endhead",
        "\\bottomrule",
        "\\endfoot",
        *_rows(frame),
    ]
    return "\n".join([*lines, "\\end{longtable}}"]) + "\n"


def _head(frame: pd.DataFrame) -> str:
    return " & ".join(tex(str(column)) for column in frame.columns) + " \\\\"


def _rows(frame: pd.DataFrame) -> list[str]:
    lines = []
    above = None
    for row in frame.itertuples(index=False):
        first, *rest = [tex(str(value)) for value in row]
        if first != above:
            lines.append("\\midrule")
        lines.append(" & ".join(["" if first == above else first, *rest]) + " \\\\")
        above = first
    return lines


def _tex_cell(cell: Cell, column: Column, intervals: str) -> str:
    value, interval = cell_text(cell, column), interval_text(cell, column, intervals).replace("±", "$\\pm$")
    value = "---" if value == MISSING else tex(value)
    value = f"\\textbf{{{value}}}" if cell.mark == "best" else value
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
    "~": "\\textasciitilde{}",
    "†": "$^\\dagger$",
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
