"""Progress of a study on the terminal: a bar a run, or plain lines where there is no terminal."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from experiments.data.corpus import Progress as CorpusProgress
from experiments.execution.jobs import Update
from experiments.studies.reference_runs import ReferenceRun
from experiments.studies.runs import Run

_SAID = ("failed", "diverged", "stopped", "elsewhere", "warning")  # stages that are told as lines


class RunProgress:
    """Shows what the workers tell."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("[bold]{task.fields[label]:<18}"),
            TextColumn("{task.description:<14}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._labels: dict[str, str] = {}
        self._stages: dict[str, str] = {}

    def __enter__(self) -> "RunProgress":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def announce(
        self,
        todo: Sequence[Run | ReferenceRun],
        reused: set[str],
        broken: Mapping[str, tuple[str, str]],
    ) -> None:
        """Say what there is to do."""
        say = self._console.print
        if reused:
            say(f"{len(reused)} runs are finished already; they are not trained again")
        for status, reason in broken.values():
            say(f"[yellow]a run {status} before[/] ({escape(reason)}); --retry trains it again")
        if todo:
            say(f"{len(todo)} runs to do; stopped with Ctrl-C, the same command goes on from there")
        several = len({run.seed for run in todo if run.seed is not None}) > 1
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
        elif not label or update.stage.partition(":")[0] in _SAID:
            self._console.print(f"[yellow]{escape(label) or 'note'}[/]: {escape(update.stage)}")
        elif self._console.is_terminal:
            self._bar(update, label)
        elif self._stages.get(update.key) != update.stage:
            self._stages[update.key] = update.stage
            self._console.print(f"{label}: {update.stage}")

    def _bar(self, update: Update, label: str) -> None:
        total = update.total or None
        if update.key not in self._tasks:
            self._tasks[update.key] = self._bars.add_task(update.stage, total=total, label=label, text="")
        task = self._tasks[update.key]
        if self._stages.get(update.key) != update.stage:
            self._stages[update.key] = update.stage
            # `reset` replaces all fields of a task: what is not named here would be gone.
            self._bars.reset(task, description=update.stage, total=total, label=label, text="")
        self._bars.update(task, completed=update.done, total=total, text=escape(update.text))

    def _finish(self, update: Update, label: str) -> None:
        if update.key in self._tasks:
            task = self._tasks.pop(update.key)
            self._bars.remove_task(task)
        colour = "green" if update.outcome == "finished" else "yellow"
        self._console.print(f"[{colour}]{update.outcome}[/] {escape(label)}")


@contextlib.contextmanager
def progress_bar() -> Iterator[CorpusProgress]:
    """A rich progress bar on stderr, as the `progress` of `prepare`; a line for every stage."""
    with Progress(console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(escape(stage))
            bar.update(tasks[stage], completed=done, total=total)

        yield show
