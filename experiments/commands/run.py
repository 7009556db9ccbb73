"""`codecbench run`: a study from its file to its table and figures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.runner import Summary
    from experiments.study import Study
    from experiments.tracking import Store


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
    retry: Annotated[bool, typer.Option("--retry", help="train failed and diverged runs again")] = False,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; default MLFLOW_TRACKING_URI, or ./mlflow.db")
    ] = None,
) -> None:
    """Train, score and compare the quantizers of a study. Start it again to go on after a stop."""
    from rich.console import Console

    from experiments import runner, runs, tracking
    from experiments import study as studies
    from experiments.commands.progress import RunProgress
    from experiments.data import progress_bar

    console = Console(stderr=True, highlight=False)
    overrides = [*(set_ or []), *([f"data.corpus={data}"] if data is not None else [])]
    asked = studies.load(study, overrides)
    console.print(f"[bold]{asked.name}[/]: {asked.question}")
    _check_rates(asked, console)
    with progress_bar() as preparing:
        corpus = runner.identify(asked.data.corpus, runs.sample_rate(asked), preparing)
    with RunProgress(console) as progress:
        summary, store = runner.run_study(
            asked,
            corpus,
            uri=tracking.store_uri(tracking_uri),
            directory=directory,
            workers=workers or runner.default_workers(),
            device=_device(device),
            retry=retry,
            announce=progress.announce,
            show=progress.show,
        )
    if summary.finished:
        _report(summary, store, asked, output, console)
    if summary.stopped:
        console.print("[yellow]not finished[/]; the same command goes on from where it stopped")
        raise typer.Exit(130)
    if not summary.complete:
        broken = len(summary.runs) - len(summary.finished)
        console.print(f"[red]{broken} of {len(summary.runs)} runs failed[/]; see the table and error.txt")
        raise typer.Exit(1)


def _check_rates(study: Study, console: Console) -> None:
    """A comparison is at one rate, or says that it is not."""
    from experiments import runs

    rates = runs.rates(study)
    off = runs.mismatched(rates)
    for rate in off:
        console.print(
            f"[yellow]rate mismatch[/]: {rate.label} spends {rate.bits_per_frame:.2f} bits a frame, "
            f"{rate.bitrate / 1000:.3f} kbit/s, more than 2 % off the others: it is set apart in tables"
        )


def _device(name: str) -> str:
    import torch

    if name != "auto":
        try:
            torch.zeros(1, device=name)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise typer.BadParameter(f"{name}: {reason}; use --device cpu", param_hint="--device") from None
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _report(summary: Summary, store: Store, study: Study, output: Path, console: Console) -> None:
    from analysis import load
    from analysis.figures import write_all
    from analysis.renderers import print_table, render
    from analysis.tables import comparison

    hashes = [run.hash for run in summary.runs] + [run.hash for run in summary.references]
    results = load(study.name, store.uri, run_hashes=hashes)
    table = comparison(results, allow_rate_mismatch=study.allow_rate_mismatch)
    folder = output / study.name
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for suffix, kind in (("md", "markdown"), ("csv", "csv"), ("tex", "latex")):
        path = folder / "tables" / f"comparison.{suffix}"
        path.write_text(render(table, kind), encoding="utf-8")
    print_table(table)
    if summary.outcomes or not (folder / "figures").exists():
        with console.status("drawing figures"):
            write_all(results, folder / "figures", formats=("png", "svg"))
        store.log_files(summary.parent_id, folder / "tables", "tables")
        store.log_files(summary.parent_id, folder / "figures", "figures")
    drawn = sorted(path.name for path in (folder / "figures").glob("voronoi-*.png"))
    console.print(f"\ntables   {folder / 'tables'}/comparison.md, .csv, .tex", soft_wrap=True)
    console.print(f"figures  {folder / 'figures'}/ ({', '.join(drawn)}, and others)", soft_wrap=True)
    console.print(f"weights  {summary.directory}/")
    console.print(f"tracking {store.uri}; look at it with:")
    console.print(f"         mlflow ui --backend-store-uri {shlex.quote(store.uri)}", soft_wrap=True)


def list_studies() -> None:
    """List the studies that come with codecbench."""
    from rich.console import Console
    from rich.table import Table

    from experiments import study as studies

    table = Table("study", "question", box=None)
    for name in studies.available():
        table.add_row(name, studies.load(name).question)
    Console(highlight=False).print(table)
