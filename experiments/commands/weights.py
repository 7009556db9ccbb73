"""`codecbench weights`: released weights that studies can start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

app = typer.Typer(help="List released weights, and get them.", invoke_without_command=True)


@app.callback()
def list_weights(context: typer.Context) -> None:
    """List the released weights that studies can start from: size, licence, and where they are kept."""
    if context.invoked_subcommand is not None:
        return
    from codec import weights

    table = Table("weights", "what they are", "MB", "licence", "kept in", box=None)
    for name in weights.available():
        release = weights.get(name)
        place = (
            str(weights.place(name)) if weights.present(name) else "not here; codecbench weights get " + name
        )
        table.add_row(name, release.title, f"{release.size / 1e6:.1f}", release.licence, place)
    Console(highlight=False, markup=False, soft_wrap=True).print(table)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="name in the list of `codecbench weights`")],
    folder: Annotated[
        Path | None,
        typer.Option("--from", help="folder with the released files; without it they are downloaded"),
    ] = None,
) -> None:
    """Get released weights: download and check them, or take them from a folder; convert them once."""
    from codec import weights

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        weights.obtain(name, folder=folder, fetch=folder is None, progress=show)
    release = weights.get(name)
    console.print(f"{name}: {release.title} ({release.licence}), kept in {weights.place(name)}")
