"""`codecbench search`: the best bottleneck of a study's search space at a fixed budget of bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiments.search.trials import SearchOutcome
    from experiments.studies.study import Study


def search(
    study: Annotated[str, typer.Argument(help="a shipped study (codecbench list studies) or a YAML file")],
    data: Annotated[str | None, typer.Option(help="another corpus, as in `codecbench run`")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="change a value, such as search.trials=40")
    ] = None,
    output: Annotated[Path, typer.Option(help="folder for tables and figures")] = Path("results"),
    directory: Annotated[Path, typer.Option("--runs", help="folder for weights and states")] = Path("runs"),
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default one a core")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; default MLFLOW_TRACKING_URI, or ./mlflow.db")
    ] = None,
) -> None:
    """Search tilings, levels, dimensions and more for the best one, beside random search. Start it again to
    go on after a stop."""
    from rich.console import Console

    from experiments.commands.options import chosen_device
    from experiments.commands.progress import RunProgress, progress_bar
    from experiments.execution import executors
    from experiments.execution import study_runner as runner
    from experiments.search.space import SearchError, Space
    from experiments.search.trials import budget
    from experiments.search.trials import search as carry_out
    from experiments.studies import runs
    from experiments.studies import study as studies
    from experiments.studies.sections import Search
    from experiments.tracking import store as tracking
    from experiments.tracking.schema import FINISHED

    try:
        import optuna  # noqa: F401
    except ImportError:
        raise SearchError(
            "a search needs Optuna; install it with: pip install 'codecbench[search]'"
        ) from None
    console = Console(stderr=True, highlight=False)
    asked = studies.load(study, [*(set_ or []), *([f"data.corpus={data}"] if data is not None else [])])
    section = asked.search or Search()
    space = Space(section.space, budget(asked))
    console.print(f"[bold]{asked.name}[/]: {asked.question}")
    console.print(
        f"{len(space.families)} kinds of bottleneck within 2 % of {space.bits:g} bits a frame "
        f"({', '.join(space.families)}); {section.trials} x {asked.train.steps} training steps for each of "
        f"2 samplers and {len(section.seeds)} seeds"
    )
    for reason in space.left_out:
        console.print(f"[yellow]left out[/]: {reason}")
    with progress_bar() as preparing:
        corpus = runner.identify(asked.data.corpus, runs.sample_rate(asked), preparing)
    with RunProgress(console) as progress:
        found = carry_out(
            asked,
            corpus,
            uri=tracking.store_uri(tracking_uri),
            directory=directory,
            executor=executors.create("local", workers=workers),
            device=chosen_device(device),
            announce=lambda todo, reused: progress.announce(todo, set(map(str, range(reused))), {}),
            show=progress.show,
        )
    if (found.trials["status"] == FINISHED).any():
        _report(found, asked, output / asked.name / "search", console.print)
    if found.stopped:
        console.print("[yellow]not finished[/]; the same command goes on from where it stopped")
        raise typer.Exit(130)


def _report(found: SearchOutcome, study: Study, folder: Path, say: Callable[..., None]) -> None:
    """Print the Pareto set, write trials, table and figures, and log them with the search's parent run."""
    from rich.console import Console
    from rich.table import Table

    from analysis.figures import search as results
    from analysis.figures.style import save, style

    folder.mkdir(parents=True, exist_ok=True)
    found.trials.to_csv(folder / "trials.csv", index=False)
    best = results.best_frame(found.trials, found.objectives)
    best.to_csv(folder / "best.csv", index=False)
    progress = results.progress_frame(found.trials, found.objectives[0])
    with style("web") as scale:
        figure = results.progress_figure(progress, found.objectives[0], scale)
        save(figure, folder / "best-so-far", ("png", "svg"), progress)
        figure = results.trials_figure(found.trials, found.objectives, scale)
        save(figure, folder / "pareto", ("png", "svg"), found.trials)
    found.store.log_files(found.parent_id, folder, "search")
    columns = ["bits", *(name for name in found.objectives if name != "rate/bits_per_frame")]
    table = Table("bottleneck", *columns, "found by", box=None)
    for row in best.to_dict("records"):
        table.add_row(str(row["label"]), *(f"{row[name]:.4g}" for name in columns), str(row["sampler"]))
    Console(highlight=False).print(table)
    say(f"\n{results.caption(found.trials)}", soft_wrap=True)
    say(f"trials   {folder}/trials.csv; figures {folder}/best-so-far.png, pareto.png", soft_wrap=True)
    say(f"on the test set: codecbench table {study.name}", soft_wrap=True)
