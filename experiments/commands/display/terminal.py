"""Terminal output: consoles that print text as it is, and tables of plain values.

Labels, questions, paths and reasons come from users and from their files. Rich reads `[...]` as markup and
`:name:` as a picture, and a terminal obeys control characters; the consoles of this module do neither.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

FILE_WIDTH = 200  # characters, of a table that is not printed to a terminal
TEXT_WIDTH = 20  # characters below which a column of running text is not squeezed
MOST_CELLS = 10_000  # of a line; help pads its frames to the width that COLUMNS says


def forget_impossible_size(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove `COLUMNS` and `LINES` where they are no size of a terminal, which then says its own.

    Rich believes them: with COLUMNS=0, as some programs export it, nothing at all would be printed.
    """
    for name in ("COLUMNS", "LINES"):
        size = environment.get(name, "1")
        if not (size.isascii() and size.isdigit() and len(size) < 10 and 0 < int(size) <= MOST_CELLS):
            del environment[name]


def printable(text: object, keep: str = "") -> str:
    """`text` with everything that a terminal would obey as escapes: control characters, line ends, marks that
    turn the direction of writing. keep: characters to leave as they are."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        char
        if char.isprintable() or char in keep or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape").decode()
        for char in shown
    )


class Console(RichConsole):
    """A console without markup, emoji and highlighting; lines are not broken unless the text is a table's.

    A reader that has gone raises BrokenPipeError in place of SystemExit, so that the command can tell.

    muted: progress and notes are not shown; warnings, errors and results are (`--quiet`).
    """

    def __init__(self, muted: bool = False, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        self.muted = muted
        if not self.is_terminal and self._width is None:
            self.width = FILE_WIDTH

    def render_str(self, text: str, **options: Any) -> Text:
        """`text` as it is, control characters escaped."""
        return super().render_str(printable(text, keep="\n"), **options)

    def say(self, *parts: str | tuple[str, str], to_copy: bool = False) -> None:
        """Print one line of texts and of (text, style) pairs: broken between words where a terminal is
        narrower, unless it is `to_copy`, and as long as it is where the output is a file."""
        line = Text()
        for part in parts:
            text, style = (part, "") if isinstance(part, str) else part
            line.append(printable(text), style=style)
        self.print(line, soft_wrap=to_copy or not self.is_terminal)

    def note(self, *parts: str | tuple[str, str], to_copy: bool = False) -> None:
        """Print a line as `say` does, unless the console is muted."""
        if not self.muted:
            self.say(*parts, to_copy=to_copy)

    @property
    def shows_progress(self) -> bool:
        """Whether bars are drawn: in a terminal, and not muted."""
        return self.is_interactive and not self.muted

    def say_lines(self, text: str) -> None:
        """Print a message of one line or more."""
        for line in text.splitlines():
            self.say(line)

    def table(self, table: PlainTable) -> None:
        """Print a table for the width of the terminal, or for `FILE_WIDTH` where the output is a file."""
        for number, panel in enumerate(table.panels(self.width)):
            if number:
                self.print()
            self.print(panel)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError again."""
        self.quiet = True
        error = sys.exc_info()[1]
        raise error if error is not None else BrokenPipeError


def output() -> Console:
    """The console of results, which go to stdout."""
    return Console()


def messages(quiet: bool = False) -> Console:
    """The console of progress, warnings and errors, which go to stderr. quiet: without progress and notes."""
    return Console(stderr=True, muted=quiet)


class PlainTable:
    """Rows of texts and numbers, printed in as many panels as the width asks for; no word is broken.

    texts: columns of running text, aligned at the left and broken between words. keys: number of columns,
    from the left, that tell rows apart and stand in each panel; fewer where no other column would fit beside
    them. The first column is aligned at the left; it is broken between words only where it would take more
    than half of the width. Columns that are neither the first nor texts hold numbers, aligned at the right.
    ruled: with a line below the head. A cell is a text, or a pair of a text and a style.
    """

    def __init__(
        self, *columns: str, texts: tuple[str, ...] = (), keys: int = 1, ruled: bool = False
    ) -> None:
        self.columns, self.texts, self.keys, self.ruled = columns, texts, keys, ruled
        self.rows: list[tuple[Text, ...]] = []

    def add(self, *cells: str | tuple[str, str]) -> None:
        """Add a row, a cell for each column."""
        pairs = [(cell, "") if isinstance(cell, str) else cell for cell in cells]
        self.rows.append(tuple(Text(printable(text), style=style) for text, style in pairs))

    def panels(self, width: int) -> Iterator[Table]:
        """The table in panels that are at most `width` characters wide, where words allow it."""
        words = [cell_len(word) for cell in self._cells(0) for word in cell.split()]
        first = min(self._longest(0), max([width // 2, *words]))
        count = self.keys
        while count > 1 and any(
            self._width(first, [*range(1, count), place]) > width for place in range(count, len(self.columns))
        ):
            count -= 1
        keys = list(range(1, count))
        places: list[int] = []
        for place in range(count, len(self.columns)):
            if places and self._width(first, [*keys, *places, place]) > width:
                yield self._panel(first, [*keys, *places])
                places = []
            places.append(place)
        yield self._panel(first, [*keys, *places])

    def _width(self, first: int, places: Sequence[int]) -> int:
        """Characters that a panel wants; a running text is content with `TEXT_WIDTH`."""
        between, edges = (3, 2) if self.ruled else (2, 0)
        wanted = [max(self._narrowest(place), min(self._longest(place), TEXT_WIDTH)) for place in places]
        return first + sum(wanted) + between * len(places) + edges

    def _cells(self, place: int) -> list[str]:
        return [self.columns[place], *(row[place].plain for row in self.rows)]

    def _longest(self, place: int) -> int:
        return max(cell_len(cell) for cell in self._cells(place))

    def _narrowest(self, place: int) -> int:
        """Characters below which a word of a column would be broken."""
        if self.columns[place] not in self.texts:
            return self._longest(place)
        return max((cell_len(word) for cell in self._cells(place) for word in cell.split()), default=0)

    def _panel(self, first: int, places: Sequence[int]) -> Table:
        """first: the width of the first column."""
        panel = Table(box=box.SIMPLE_HEAD if self.ruled else None, padding=(0, 2, 0, 0), pad_edge=False)
        whole = first >= self._longest(0)
        panel.add_column(
            Text(self.columns[0]), no_wrap=whole, overflow="fold", min_width=first, max_width=first
        )
        for place in places:
            text = self.columns[place] in self.texts
            panel.add_column(
                Text(self.columns[place]),
                justify="left" if text else "right",
                no_wrap=not text,
                overflow="fold",
                min_width=self._narrowest(place),
            )
        for row in self.rows:
            panel.add_row(*(row[place] for place in (0, *places)))
        return panel


def clipped(text: str, width: int, mark: str = "…") -> str:
    """`text` in at most `width` characters, with `mark` at its end where it was longer."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - cell_len(mark), 0)) + mark if width >= cell_len(mark) else ""
