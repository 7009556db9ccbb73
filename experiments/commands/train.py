"""`codecbench train`: one run of a study, on one device or, under torchrun, on several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.options import override_list


def train(
    study: Annotated[str, typer.Argument(help="a shipped study (codecbench list studies) or a YAML file")],
    quantizer: Annotated[
        str | None, typer.Option(help="label of the quantizer; may be left out where there is only one")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="one of the study's; may be left out where there is only one")
    ] = None,
    data: Annotated[str | None, typer.Option(help="another corpus, as for `codecbench run`")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="change a value of the study, such as train.steps=200")
    ] = None,
    directory: Annotated[
        Path, typer.Option("--runs", help="folder for weights and states; one that all machines share")
    ] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; a process takes its own GPU")] = "auto",
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; default MLFLOW_TRACKING_URI, or ./mlflow.db")
    ] = None,
) -> None:
    """Train, score and log one run of a study; start it by torchrun to use several GPUs or machines.

    Start it again to go on after a stop. The run is the one that `codecbench run` would make.
    """
    import signal
    from threading import Event

    import torch
    from rich.console import Console

    from experiments.commands.progress import progress_bar
    from experiments.execution import one_run as single_run
    from experiments.execution.jobs import ELSEWHERE, STOPPED
    from experiments.studies import study as studies
    from experiments.tracking import store as tracking
    from experiments.tracking.schema import FINISHED
    from experiments.training import distributed as processes

    asked = studies.load(study, override_list(set_, data))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise typer.BadParameter(f"{device}: give auto, cpu or cuda", param_hint="--device")
    if device == "cpu":
        torch.set_num_threads(1)  # so that a result does not depend on the number of cores
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # torchrun and schedulers send the second
        signal.signal(number, lambda *_: stop.set())
    fabric = processes.launched(device)
    console = Console(stderr=True, highlight=False, quiet=not fabric.is_global_zero)
    with progress_bar() as preparing:
        outcome = single_run.perform(
            asked,
            label=quantizer,
            seed=seed,
            uri=tracking.store_uri(tracking_uri),
            directory=directory,
            fabric=fabric,
            stop=stop,
            show=single_run.Lines(lambda line: console.print(line, markup=False, soft_wrap=True)).show,
            prepare=preparing,
        )
    console.print(f"{outcome.status} {outcome.reason}".strip(), markup=False, soft_wrap=True)
    if outcome.status != FINISHED:
        raise typer.Exit(130 if outcome.status in (STOPPED, ELSEWHERE) else 1)
