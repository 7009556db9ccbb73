"""The command line. Commands are in `experiments/commands`; heavy imports are in the bodies of commands."""

import importlib.util
import logging
import platform
import signal
import sys
from collections.abc import Callable
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
from experiments.commands.bitstreams import commands as bitstreams
from experiments.commands.display.terminal import forget_impossible_size, messages, output
from experiments.commands.housekeeping import runs, study_files

app = typer.Typer(
    name="codecbench",
    help="Compare quantizers for neural speech codecs at equal bitrate, with statistics.",
    cls=guard.GuardedCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
listing = typer.Typer(help="List studies, quantizers, metrics or reference codecs.", no_args_is_help=True)

_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Studies": (study_files.init, study_files.show_study, plan.plan, run.run, train.train, search.search),
    "Results": (
        *(
            results.table,
            results.effects,
            results.figures,
            results.report,
            results.paper,
            results.power,
            runs.compare,
        ),
        *(archive.export, archive.import_),
    ),
    "Runs and files": (runs.runs, runs.show, runs.ui, runs.clean, study_files.schema),
    "Trained codecs": (bitstreams.encode, bitstreams.decode),
    "Decoded audio": (evaluate.evaluate, metrics.check_metrics),
    "Quantizers without speech": (
        *(quantizers.rates, quantizers.geometry, voronoi.voronoi, source_coding.source_coding),
        quantizers.check_quantizer,
    ),
}
_NAMES = {archive.import_: "import"}  # where it is no name of a function

for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(_NAMES.get(_command), rich_help_panel=_panel)(_command)
app.add_typer(listing, name="list", rich_help_panel="Lists")
app.add_typer(weights.app, name="weights", rich_help_panel="Lists")
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
            "--version", callback=_print_version, is_eager=True, help="Show version and folder, and exit."
        ),
    ] = False,
) -> None:
    """Compare quantizers for neural speech codecs at equal bitrate, with statistics.

    Start with: codecbench run quickstart
    """


def main() -> None:
    """Entry point of `codecbench`. See `experiments.commands.guard` for errors and exit codes."""
    forget_impossible_size()
    for stream in (sys.stdout, sys.stderr):
        # A letter that the terminal's encoding lacks becomes `?`, rather than the end of a study.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the store's error tells what its retries met
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
    """A message where Python would import a stranger under the name of one of our packages, else empty.

    Files of another distribution may lie in the same folder as ours: what `__init__.py` says tells.
    """
    home = Path(__file__).resolve().parents[1]
    for name in guard.PACKAGES:
        spec = importlib.util.find_spec(name)
        places = [Path(place).parent for place in (spec and spec.submodule_search_locations) or ()]
        if spec is None:
            return f"codecbench's package {name!r} is missing; install codecbench again"
        if home not in [place.resolve() for place in places]:
            other = spec.origin or next(iter(places), "a file")
            remedy = guard.rival_distributions() or (
                "rename it, start codecbench from another folder, or, where another distribution "
                "installed it, install codecbench into a virtual environment of its own"
            )
            return f"{other} hides codecbench's own package {name!r} in {home}: {remedy}"
        if guard.MARK not in (home / name / "__init__.py").read_bytes():
            remedy = guard.rival_distributions() or "install codecbench again, by itself"
            return f"{home / name} is not codecbench's own package {name!r} any more: {remedy}"
    return ""


if __name__ == "__main__":
    main()
