"""`codecbench weights`: released weights that studies can start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from experiments.commands.display.terminal import messages, output
from experiments.commands.options import Quiet

app = typer.Typer(help="List or download released weights.", invoke_without_command=True)


@app.callback()
def list_weights(context: typer.Context) -> None:
    """List the released weights that studies can start from: size, licence and folder."""
    if context.invoked_subcommand is not None:
        return
    from codec import weights

    console = output()
    for name in weights.available():
        release = weights.get(name)
        console.say((name, "bold"), f"  {release.title}; {release.size / 1e6:.1f} MB, {release.licence}")
        if weights.present(name):
            console.say(f"  kept in {weights.place(name)}", to_copy=True)
        else:
            console.say(f"  not here: codecbench weights get {name}", to_copy=True)


@app.command()
def get(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="name of released weights, as `codecbench weights` lists it")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FOLDER", help="folder with the released files; default: download them"
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Download released weights, or take them from a folder; check and convert them."""
    from codec import weights

    console = messages(quiet)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=console.muted) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        weights.obtain(name, folder=folder, fetch=folder is None, progress=show)
    release = weights.get(name)
    console.note(f"{name}: {release.title} ({release.licence})")
    console.note(f"kept in {weights.place(name)}", to_copy=True)
