"""Rows of runs under way, laid out for the width of a terminal: names stay whole, texts give way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from experiments.commands.display.terminal import clipped
from experiments.commands.display.time_left import words

_STAGE = 14  # characters: `reconstructing`
_SHORTEST_BAR, _LONGEST_BAR = 8, 24
_SHORTEST_TEXT = 20
_GAP = "  "
_LEFT = 12  # characters: `4.2 days left`, nearly


class Row(NamedTuple):
    """A run under way. left: seconds until its end, if known. text: losses and speeds."""

    name: str
    stage: str
    done: int = 0
    total: int = 0
    left: float | None = None
    text: str = ""

    @property
    def progress(self) -> str:
        """Steps or clips done, of how many."""
        return f"{self.done}/{self.total}" if self.total else ""

    @property
    def time(self) -> str:
        """Time left in words."""
        return "" if self.left is None else f"{words(self.left)} left"


def run_rows(title: str, rows: Sequence[Row], width: int, *, ascii_only: bool = False) -> Iterator[Text]:
    """Lines of at most `width` characters: the title, then each run on one line, or on two where the terminal
    is too narrow for its name, stage, bar, count and time left side by side."""
    mark = "..." if ascii_only else "…"
    yield Text(clipped(title, width, mark), style="bold")
    names = max((cell_len(row.name) for row in rows), default=0)
    counts = max((len(row.progress) for row in rows), default=0)
    free = width - names - _STAGE - counts - _LEFT - 4 * len(_GAP)
    for row in rows:
        if free < _SHORTEST_BAR:
            yield from _on_two_lines(row, width, mark, ascii_only)
            continue
        bar = min(free, _LONGEST_BAR)
        line = Text()
        line.append(_padded(row.name, names), style="bold")
        line.append(_GAP + _padded(clipped(row.stage, _STAGE, mark), _STAGE) + _GAP)
        line.append_text(_bar(row, bar, ascii_only))
        line.append(_GAP + row.progress.rjust(counts) + _GAP + _padded(clipped(row.time, _LEFT, mark), _LEFT))
        rest = free - bar - len(_GAP)
        if rest >= _SHORTEST_TEXT and row.text:
            line.append(_GAP + clipped(row.text, rest, mark), style="dim")
        line.rstrip()
        yield line


def _on_two_lines(row: Row, width: int, mark: str, ascii_only: bool) -> Iterator[Text]:
    """The name, over as many lines as it needs, and below it what fits of stage, count, time left and bar."""
    yield Text(row.name, style="bold", overflow="fold", no_wrap=False)
    parts = [part for part in (row.stage, row.progress, row.time) if part]
    while len(parts) > 1 and cell_len(_GAP.join(parts)) + len(_GAP) > width:
        parts.remove(row.progress if row.progress in parts else parts[-1])
    line = Text(_GAP + clipped(_GAP.join(parts), width - len(_GAP), mark))
    if (rest := width - cell_len(line.plain) - len(_GAP)) >= _SHORTEST_BAR and row.total:
        line.append(_GAP)
        line.append_text(_bar(row, min(rest, _LONGEST_BAR), ascii_only))
    yield line


def _bar(row: Row, width: int, ascii_only: bool) -> Text:
    """A bar of the share that is done: told apart by shape, too, since there may be no colours."""
    if not row.total:
        return Text(" " * width)
    full = min(width * row.done // row.total, width)
    done, rest = ("#", "-") if ascii_only else ("━", "─")
    return Text.assemble((done * full, "green"), (rest * (width - full), "bright_black"))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
