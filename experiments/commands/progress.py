"""Progress of a study: a row for each run in a terminal, lines of text in a log file."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from experiments.commands.display.run_rows import Row, run_rows
from experiments.commands.display.terminal import Console, messages, printable
from experiments.commands.display.time_left import FINISHED, TRAINING, StudyClock, words
from experiments.common.plain_words import counted

if TYPE_CHECKING:
    from experiments.data.corpus import Progress as CorpusProgress
    from experiments.execution.jobs import Update
    from experiments.studies.reference_runs import ReferenceRun
    from experiments.studies.runs import Run

_EVENTS = ("failed", "diverged", "stopped", "elsewhere", "warning")  # stages that are told at once
LINE_SECONDS = 60.0  # between two lines of one stage in a log file


class Lines:
    """Progress as lines of text: one where a stage begins, then at most one every `seconds` for each run.

    quiet: only what went wrong is told.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        seconds: float = LINE_SECONDS,
        clock: StudyClock | None = None,
        now: Callable[[], float] = time.monotonic,
        *,
        quiet: bool = False,
    ) -> None:
        self._say, self._seconds, self._now, self._quiet = say, seconds, now, quiet
        self._clock = clock or StudyClock(now)
        self._last: dict[str, float] = {}

    def show(self, update: Update, label: str = "") -> None:
        """Print a line for `update`, where it is time for one."""
        if update.outcome:
            self._clock.finish(update.key, update.outcome)
        elif update.stage.partition(":")[0] in _EVENTS:
            self._say(f"{label}: {update.stage}" if label else update.stage)
        else:
            self.stage(update.stage, update.done, update.total, update.text, key=update.key, label=label)

    def stage(
        self, stage: str, done: int, total: int, text: str = "", *, key: str = "", label: str = ""
    ) -> None:
        """Print a line for a stage that goes on, where it is time for one."""
        begins = self._clock.update(key, stage, done, total)
        if self._quiet:
            return
        due = self._now() - self._last.get(key, 0.0) >= self._seconds
        if not (begins or due or (total and done == total)):
            return
        self._last[key] = self._now()
        parts = [f"{label}: {stage}" if label else stage]
        if total:
            parts.append(f"{'step ' if stage == TRAINING else ''}{done} of {total}")
        if text:
            parts.append(text)
        left = self._clock.run_left(key)
        if left is not None and done < total:
            parts.append(f"about {words(left)} left")
        self._say(", ".join(parts))


class RunProgress:
    """Shows what the workers of a study tell: rows in a terminal, else lines."""

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = StudyClock(now)
        self._lines = Lines(console.say, clock=self._clock, now=now, quiet=console.muted)
        self._labels: dict[str, str] = {}
        self._updates: dict[str, Update] = {}  # of runs under way
        self._lock = threading.RLock()  # the display is drawn by a thread of its own
        self._live = Live(
            get_renderable=lambda: _Display(self._drawn),
            console=console,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> RunProgress:
        if self._console.shows_progress:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def announce(
        self,
        todo: Sequence[Run | ReferenceRun],
        reused: set[str],
        broken: Mapping[str, tuple[str, str]],
    ) -> None:
        """Say which runs are to do."""
        line = self._console.note
        if reused:
            verb, pronoun = ("is", "it is") if len(reused) == 1 else ("are", "they are")
            line(f"{counted(len(reused), 'run')} {verb} finished already; {pronoun} not trained again")
        for status, reason in broken.values():
            warning = (f"a run {status} before", "yellow")
            self._console.say(warning, f" ({reason}); --retry trains it again")
        if todo:
            line(
                f"{counted(len(todo), 'run')} to do; stopped with Ctrl-C, the same command goes on from there"
            )
        several = len({run.seed for run in todo if run.seed is not None}) > 1
        with self._lock:
            self._clock.expect([run.hash for run in todo])
            for run in todo:
                seed = f" seed {run.seed}" if several and run.seed is not None else ""
                self._labels[run.hash] = f"{run.label}{seed}"
                if start := run.warm_start():
                    self._labels[start.training_hash] = f"warm start{seed}"

    def show(self, update: Update) -> None:
        """Show one update."""
        label = self._labels.get(update.key, "")
        if update.outcome:
            self._finish(update, label)
        elif not label or update.stage.partition(":")[0] in _EVENTS:
            self._console.say((label or "note", "yellow"), f": {update.stage}")
        elif self._console.shows_progress:
            with self._lock:
                self._clock.update(update.key, update.stage, update.done, update.total)
                self._updates[update.key] = update
        else:
            self._lines.show(update, label)

    def _finish(self, update: Update, label: str) -> None:
        with self._lock:
            self._updates.pop(update.key, None)
            self._clock.finish(update.key, update.outcome)
        colour = "green" if update.outcome == FINISHED else "yellow"
        counted = "" if self._console.is_interactive else f" ({self._clock.text()})"
        tell = self._console.note if update.outcome == FINISHED else self._console.say
        tell((update.outcome, colour), f" {label}{counted}")

    def _drawn(self, width: int, ascii_only: bool) -> Iterator[Text]:
        with self._lock:
            rows = [
                Row(
                    name=printable(self._labels[key]),
                    stage=update.stage,
                    done=update.done,
                    total=update.total,
                    left=self._clock.run_left(key),
                    text=printable(update.text),
                )
                for key, update in self._updates.items()
            ]
            title = self._clock.text() or "reading the tracking store"
        return run_rows(title, rows, width, ascii_only=ascii_only)


@dataclass(frozen=True)
class _Display:
    """Lines made for the width that the terminal has when they are drawn."""

    lines: Callable[[int, bool], Iterator[Text]]

    def __rich_console__(self, _: RichConsole, options: ConsoleOptions) -> RenderResult:
        yield from self.lines(options.max_width, options.ascii_only)


@contextlib.contextmanager
def progress_bar(console: Console | None = None) -> Iterator[CorpusProgress]:
    """The `progress` of `prepare` on stderr: a bar for every stage in a terminal, else lines."""
    console = console or messages()
    lines = Lines(console.say, quiet=console.muted)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.shows_progress) as bars:
        tasks = {}

        def show(stage: str, done: int, total: int) -> None:
            if not console.shows_progress:
                lines.stage(stage, done, total)
                return
            if stage not in tasks:
                tasks[stage] = bars.add_task(printable(stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show
