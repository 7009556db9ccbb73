"""`codecbench run`: a study from its file to its table and figures."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from experiments.commands import outputs, progress
from experiments.commands.display.terminal import Console, PlainTable, messages, output
from experiments.commands.guard import FAILED, STOPPED, WRONG_INPUT
from experiments.commands.options import (
    Changes,
    Corpus,
    Device,
    OutputFormat,
    Quiet,
    ResultsFolder,
    RunsFolder,
    RunsPerDevice,
    StudyFile,
    TrackingUri,
    Workers,
    changes_of,
    chosen_device,
    number,
)
from experiments.common.plain_words import counted
from experiments.tracking.mirrors import mirroring
from experiments.tracking.store import store_uri

if TYPE_CHECKING:
    from experiments.execution.study_runner import Summary
    from experiments.studies.row_rates import Rate

# Outcomes of runs in words, where the status is not one.
_WORDS = {"elsewhere": "left to others", "lost": "killed", "other": "of other rows"}


def run(
    study_file: StudyFile,
    data: Corpus = None,
    changes: Changes = None,
    results: ResultsFolder = Path("results"),
    directory: RunsFolder = Path("runs"),
    workers: Workers = None,
    device: Device = "auto",
    runs_per_device: RunsPerDevice = 1,
    executor: Annotated[
        Literal["local", "ray"],
        typer.Option(help="train in processes on this machine, or as tasks on a Ray cluster"),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="ray: address of the cluster; default: a new one on this machine"
        ),
    ] = None,
    run_cpus: Annotated[
        float, typer.Option(parser=number(0), metavar="NUMBER", help="ray: CPUs per run")
    ] = 1,
    run_gpus: Annotated[
        float, typer.Option(parser=number(0), metavar="NUMBER", help="ray: GPUs per run")
    ] = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW", help="train only the row with this label, all seeds; repeatable"),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="train failed and diverged runs again")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="train again, also finished runs and, without --only, also warm starts"),
    ] = False,
    keep_warm_starts: Annotated[
        bool,
        typer.Option("--keep-warm-starts", help="with --force: use the existing warm starts"),
    ] = False,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACKER",
            help="show metrics and scores there, too: tensorboard:DIR or wandb:PROJECT; repeatable",
        ),
    ] = None,
    figures: Annotated[bool, typer.Option(help="draw the figures at the end")] = True,
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Train, score and compare the quantizers of a study.

    If it is interrupted, start the same command again: it resumes.
    Finished runs are not trained again.
    """
    from experiments.execution import executors, study_runner
    from experiments.studies import row_rates, study

    console = messages(quiet)
    loaded = study.load(study_file, changes_of(changes, data))
    study_runner.require_weights(loaded)  # before minutes of preparing a corpus
    folder = results / loaded.name
    outputs.check_folder(folder)
    outputs.check_folder(directory, "--runs")
    mirrors = [mirroring.destination(address) for address in mirror or ()]
    for one in mirrors:
        one.check()
    uri = store_uri(tracking_uri)
    chosen = chosen_device(device) if executor == "local" else device  # before a corpus is prepared
    place = executors.create(
        executor,
        workers=workers,
        address=address,
        cpus=run_cpus,
        gpus=run_gpus,
        runs_per_device=runs_per_device,
    )
    console.note((loaded.name, "bold"), f": {loaded.question}" if loaded.question else "")
    rates = row_rates.row_rates(loaded)
    _print_rate_mismatches(rates, row_rates.unmatched(rates), loaded.allow_rate_mismatch, console)
    remarks: list[str] = []
    with progress.progress_bar(console) as preparing:
        corpora = study_runner.identify_all(loaded, preparing, remarks.append)
    for line in remarks:
        console.note(line)
    with progress.RunProgress(console) as display:
        summary, store = study_runner.run_study(
            loaded,
            corpora,
            uri=uri,
            directory=directory,
            executor=place,
            device=chosen,
            retry=retry,
            force=force,
            only=only or (),
            keep_warm_starts=keep_warm_starts or bool(only),
            mirrors=mirrors,
            announce=display.announce,
            show=display.show,
        )
    problems = []
    if summary.finished:
        from experiments.commands import study_report

        problems = study_report.write(
            summary,
            store,
            folder,
            question=loaded.question,
            rate_mismatch=loaded.allow_rate_mismatch,
            figures=figures,
            console=console,
        )
    _print_counts(summary, console)
    for problem in problems:
        console.say_lines(f"error: {problem}")
    files = {"tables and figures" if figures else "tables": str(folder)} if summary.finished else {}
    files |= {"weights": str(directory), "tracking": store.uri}
    places = "; ".join(f"{name} in {place}" for name, place in files.items())
    console.note(f"{places} (mlflow ui --backend-store-uri {shlex.quote(store.uri)})", to_copy=True)
    _end(summary, console, problems)


def list_studies(format: OutputFormat = "console") -> None:
    """List the shipped studies with their questions."""
    from experiments.commands.documents import audio, document
    from experiments.studies import files

    questions = {name: str(files.read(name)[0].get("question", "")) for name in files.available()}
    if format == "json":
        listed = [audio.ListedStudy(name=name, question=text) for name, text in questions.items()]
        document.emit(audio.ListStudiesDocument(studies=listed))
        return
    table = PlainTable("study", "question", texts=("question",))
    for name, text in questions.items():
        table.add(name, text)
    output().table(table)


def _print_rate_mismatches(
    rates: Sequence[Rate], unmatched: Collection[str], allowed: bool, console: Console
) -> None:
    """Say which rows are not at the rate of the others."""
    consequence = "the study allows it, and captions say so" if allowed else "tables show it separately"
    for rate in (rate for rate in rates if rate.label in unmatched):
        console.say(
            ("rate mismatch", "yellow"),
            f": {rate.label} has {rate.bits_per_frame:.2f} bits per frame ({rate.bitrate / 1000:.3f} "
            f"kbit/s), more than 2 % off the others: {consequence}",
        )


def _print_counts(summary: Summary, console: Console) -> None:
    counts = ", ".join(f"{count} {_WORDS.get(name, name)}" for name, count in summary.counts().items())
    console.note(f"{counted(len(summary.runs), 'run')}: {counts}")


def _end(summary: Summary, console: Console, problems: list[str]) -> None:
    """Say what is missing, and exit with a code where anything is."""
    if summary.stopped:
        console.say(("not finished", "yellow"), "; start the same command again to resume")
        raise typer.Exit(STOPPED)
    total = len(summary.asked)
    if not summary.complete:
        finished = {run.hash for run in summary.finished}
        failed = f"{sum(run.hash not in finished for run in summary.asked)} of {counted(total, 'run')} failed"
        console.say((failed, "red"), "; see the table, and error.txt of each in the store")
        raise typer.Exit(FAILED)
    if problems:
        raise typer.Exit(WRONG_INPUT)
