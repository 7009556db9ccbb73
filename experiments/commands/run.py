"""`codecbench run`: a study from its file to its table and figures."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.commands.options import chosen_device, override_list

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.execution.study_runner import Summary
    from experiments.studies.study import Study
    from experiments.tracking.store import Store


def run(
    study: Annotated[str, typer.Argument(help="a shipped study (codecbench list studies) or a YAML file")],
    data: Annotated[
        str | None,
        typer.Option(help="another corpus: folder:PATH, manifest:PATH, filelist:PATH, librispeech:SUBSETS"),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="change a value of the study, such as train.steps=200")
    ] = None,
    output: Annotated[Path, typer.Option(help="folder for tables and figures")] = Path("results"),
    directory: Annotated[Path, typer.Option("--runs", help="folder for weights and states")] = Path("runs"),
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default one a core")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    executor: Annotated[str, typer.Option(help="local (processes) or ray (tasks on a cluster)")] = "local",
    address: Annotated[
        str | None, typer.Option(help="ray: address of the cluster; default a new one on this machine")
    ] = None,
    run_cpus: Annotated[float, typer.Option(min=0, help="ray: CPUs that each run takes")] = 1,
    run_gpus: Annotated[float, typer.Option(min=0, help="ray: GPUs that each run takes")] = 0,
    retry: Annotated[bool, typer.Option("--retry", help="train failed and diverged runs again")] = False,
    force: Annotated[bool, typer.Option("--force", help="train all runs again, finished ones too")] = False,
    figures: Annotated[bool, typer.Option(help="draw the figures at the end")] = True,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; default MLFLOW_TRACKING_URI, or ./mlflow.db")
    ] = None,
) -> None:
    """Train, score and compare the quantizers of a study. Start it again to go on after a stop."""
    from rich.console import Console

    from experiments.commands.progress import RunProgress, progress_bar
    from experiments.execution import executors
    from experiments.execution import study_runner as runner
    from experiments.studies import runs
    from experiments.studies import study as studies
    from experiments.tracking import store as tracking

    console = Console(stderr=True, highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers stop what they started with it
    asked = studies.load(study, override_list(set_, data))
    where = executors.create(executor, workers=workers, address=address, cpus=run_cpus, gpus=run_gpus)
    console.print(f"[bold]{asked.name}[/]: {asked.question}")
    _check_rates(asked, console)
    remarks: list[str] = []
    with progress_bar() as preparing:
        corpora = {each: runner.identify(*each, preparing, remarks.append) for each in runs.corpora(asked)}
    for line in remarks:
        console.print(line, markup=False, soft_wrap=True)
    with RunProgress(console) as progress:
        summary, store = runner.run_study(
            asked,
            corpora,
            uri=tracking.store_uri(tracking_uri),
            directory=directory,
            executor=where,
            device=chosen_device(device) if executor == "local" else device,
            retry=retry,
            force=force,
            announce=progress.announce,
            show=progress.show,
        )
    if summary.finished:
        _report(summary, store, asked, output, figures, console)
    counts = ", ".join(f"{number} {_SAID.get(name, name)}" for name, number in summary.counts().items())
    total = len(summary.runs)
    console.print(f"{total} run{'s' if total > 1 else ''}: {counts}", soft_wrap=True)
    if summary.stopped:
        console.print("[yellow]not finished[/]; the same command goes on from where it stopped")
        raise typer.Exit(130)
    if not summary.complete:
        broken = total - len(summary.finished)
        console.print(f"[red]{broken} of {total} runs failed[/]; see the table and error.txt")
        raise typer.Exit(1)


# What became of runs, in words, where the status does not say it.
_SAID = {"elsewhere": "left to others", "lost": "killed"}


def _check_rates(study: Study, console: Console) -> None:
    """A comparison is at one rate, or says that it is not."""
    from experiments.studies import rates

    then = (
        "the study allows it, and captions say so"
        if study.allow_rate_mismatch
        else "it is set apart in tables"
    )
    found = rates.row_rates(study)
    off = rates.unmatched(found)
    for rate in (rate for rate in found if rate.label in off):
        console.print(
            f"[yellow]rate mismatch[/]: {rate.label} spends {rate.bits_per_frame:.2f} bits a frame, "
            f"{rate.bitrate / 1000:.3f} kbit/s, more than 2 % off the others: {then}"
        )


def _report(
    summary: Summary, store: Store, study: Study, output: Path, figures: bool, console: Console
) -> None:
    from analysis import load
    from analysis.tables.comparison import comparison
    from analysis.tables.console import print_table
    from analysis.tables.formats import render

    results = load(study.name, store.uri, parent=summary.parent_id)
    table = comparison(results, allow_rate_mismatch=study.allow_rate_mismatch)
    folder = output / study.name
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for suffix, kind in (("md", "markdown"), ("csv", "csv"), ("tex", "latex")):
        path = folder / "tables" / f"comparison.{suffix}"
        path.write_text(render(table, kind), encoding="utf-8")
    print_table(table)
    store.log_files(summary.parent_id, folder / "tables", "tables")
    console.print(f"\ntables   {folder / 'tables'}/comparison.md, .csv, .tex", soft_wrap=True)
    if figures:
        if summary.outcomes or not (folder / "figures").exists():
            from analysis.figures.writing import write_all
            from experiments.common.machine import cores

            with console.status("drawing figures"):
                write_all(results, folder / "figures", formats=("png", "svg"), processes=cores())
            store.log_files(summary.parent_id, folder / "figures", "figures")
        drawn = sorted(path.name for path in (folder / "figures").glob("voronoi-*.png"))
        console.print(f"figures  {folder / 'figures'}/ ({', '.join(drawn)}, and others)", soft_wrap=True)
    console.print(f"weights  {summary.directory}/")
    console.print(f"tracking {store.uri}; look at it with:")
    console.print(f"         mlflow ui --backend-store-uri {shlex.quote(store.uri)}", soft_wrap=True)


def list_studies() -> None:
    """List the studies that come with codecbench."""
    from rich.console import Console
    from rich.table import Table

    from experiments.studies import study as studies

    table = Table("study", "question", box=None)
    for name in studies.available():
        table.add_row(name, studies.load(name).question)
    Console(highlight=False).print(table)
