"""The command line. Commands live in `experiments/commands`; heavy imports in the commands' bodies."""

import importlib.util
import logging
import platform
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands import (
    archive,
    evaluate,
    guard,
    metrics,
    plan,
    quantizers,
    results,
    run,
    search,
    source_coding,
    train,
    voronoi,
    weights,
)
from experiments.commands.display.terminal import forget_impossible_size, messages, output

app = typer.Typer(
    name="codecbench",
    help="Which quantizer makes the better speech codec, at the same bitrate, and is the difference real?",
    cls=guard.GuardedCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
listing = typer.Typer(help="List studies, quantizers, metrics or references.", no_args_is_help=True)

app.command()(run.run)
app.command()(plan.plan)
app.command()(train.train)
app.command()(search.search)
app.command()(results.table)
app.command()(results.figures)
app.command()(voronoi.voronoi)
app.command()(results.report)
app.command()(results.paper)
app.command()(results.power)
app.command()(archive.export)
app.command("import")(archive.import_)
app.command()(evaluate.evaluate)
app.command()(metrics.check_metrics)
app.command()(quantizers.rates)
app.command()(quantizers.geometry)
app.command()(source_coding.source_coding)
app.command()(quantizers.check_quantizer)
app.add_typer(listing, name="list")
app.add_typer(weights.app, name="weights")
listing.command("quantizers")(quantizers.list_quantizers)
listing.command("studies")(run.list_studies)
listing.command("metrics")(metrics.list_metrics)
listing.command("references")(metrics.list_references)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        number = version("codecbench")
    except PackageNotFoundError:
        number = "(not installed)"
    home = Path(__file__).resolve().parents[1]
    output().say(f"codecbench {number}, Python {platform.python_version()}, in {home}")
    raise typer.Exit


@app.callback()
def codecbench(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and where it is."
        ),
    ] = False,
) -> None:
    """Which quantizer makes the better speech codec, at the same bitrate, and is the difference real?"""


def main() -> None:
    """Entry point of `codecbench`. See `experiments.commands.guard` for errors and exit codes."""
    forget_impossible_size()
    for stream in (sys.stdout, sys.stderr):
        # A letter that the terminal's encoding lacks becomes `?`, rather than the end of a study.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # Schedulers stop what they started with SIGTERM: like Ctrl-C, it lets every command end its processes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if problem := shadowed_package():
            messages().say(f"error: {problem}")
            sys.exit(guard.WRONG_INPUT)
        app()
    except (Exception, KeyboardInterrupt) as error:  # outside of any command
        sys.exit(guard.report(error))


def shadowed_package() -> str:
    """A message where Python would import a stranger under the name of one of our packages, else empty."""
    home = Path(__file__).resolve().parents[1]
    for name in guard.PACKAGES:
        spec = importlib.util.find_spec(name)
        places = [Path(place).parent for place in (spec and spec.submodule_search_locations) or ()]
        if home in [place.resolve() for place in places]:
            continue
        other = spec.origin if spec and spec.origin else next(iter(places), "missing")
        if spec is None:
            return f"codecbench's package {name!r} is missing; install codecbench again"
        return (
            f"{other} hides codecbench's own package {name!r} in {home}. Remedy: rename it, start codecbench "
            "from another folder, or, where another distribution installed it, install codecbench into a "
            "virtual environment of its own"
        )
    return ""


if __name__ == "__main__":
    main()
