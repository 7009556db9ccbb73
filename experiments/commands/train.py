"""`codecbench train`: one run of a study, on one device or, under torchrun, on several."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Event
from typing import Annotated, Literal

import typer

from experiments.commands import progress
from experiments.commands.display.terminal import messages
from experiments.commands.guard import FAILED, STOPPED
from experiments.commands.options import (
    Changes,
    Corpus,
    Quiet,
    RunsFolder,
    StudyFile,
    TrackingUri,
    changes_of,
)
from experiments.tracking.schema import FINISHED
from experiments.tracking.store import store_uri


def train(
    study_file: StudyFile,
    quantizer: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="label of the row to train; optional if the study has only one"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="a seed of the study; optional if it has only one"),
    ] = None,
    data: Corpus = None,
    changes: Changes = None,
    directory: RunsFolder = Path("runs"),
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="device; each process uses a GPU of its own")
    ] = "auto",
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Train, score and log one run of a study; with torchrun on several GPUs or machines.

    If it is interrupted, start the same command again: it resumes.
    The result is the same run as that of `codecbench run`.
    """
    import torch

    from experiments.execution import jobs, one_run
    from experiments.studies import study
    from experiments.training import distributed

    loaded = study.load(study_file, changes_of(changes, data))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("there is no GPU here; use --device cpu", param_hint="--device")
    if device == "cpu":
        torch.set_num_threads(1)  # so that a result does not depend on the number of cores
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # torchrun and schedulers send the second
        signal.signal(number, lambda *_: stop.set())
    fabric = distributed.launched(device)
    console = messages(quiet)
    console.quiet = not fabric.is_global_zero
    lines = progress.Lines(console.say, seconds=10.0, quiet=quiet)
    with progress.progress_bar(console) as preparing:
        outcome = one_run.perform(
            loaded,
            label=quantizer,
            seed=seed,
            uri=store_uri(tracking_uri),
            directory=directory,
            fabric=fabric,
            stop=stop,
            show=lines.show,
            prepare=preparing,
        )
    if outcome.status == FINISHED:
        distributed.leave()
    tell = console.note if outcome.status == FINISHED else console.say
    tell(f"{outcome.status} {outcome.reason}".strip())
    if outcome.status in (jobs.STOPPED, jobs.ELSEWHERE):
        raise typer.Exit(STOPPED)
    if outcome.status != FINISHED:
        raise typer.Exit(FAILED)
