"""Tables as data: rows of cells in sections, ready to be rendered."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.results.columns import Column


@dataclass(frozen=True)
class Cell:
    """A value with its 95 % interval, or a text in its place.

    `mark` is `best`, `worse` (significantly worse than the best, at the 5 % level), `tied` (no significant
    difference to the best), `starred` (the best, where bold letters cannot be seen) or empty.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    text: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """A system. `message` stands in place of the cells when there is nothing to show."""

    label: str
    cells: tuple[Cell, ...]
    message: str = ""


@dataclass(frozen=True)
class Section:
    """Rows that may be compared with each other, or a heading that says why they may not."""

    title: str
    rows: tuple[Row, ...]
    comparable: bool = False


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered.

    `intervals` is one of `INTERVALS`, `name` what LaTeX refers to it by, `head` what the rows are.
    """

    title: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    caption: tuple[str, ...]
    notes: tuple[str, ...] = ()
    intervals: str = "plus-minus"
    name: str = "comparison"
    head: str = "quantizer"

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for section in self.sections for row in section.rows)
