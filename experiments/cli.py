"""The command line. Commands live in `experiments/commands`; heavy imports in the commands' bodies."""

import logging
import sys

import typer

from experiments.commands import archive, evaluate, plan, quantizers, run, search, train
from experiments.commands import results as analysis

app = typer.Typer(
    name="codecbench",
    help="Which quantizer makes the better speech codec, at the same bitrate, and is the difference real?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
listing = typer.Typer(help="List what there is.", no_args_is_help=True)

app.command()(run.run)
app.command()(plan.plan)
app.command()(train.train)
app.command()(search.search)
app.command()(analysis.table)
app.command()(analysis.figures)
app.command()(analysis.voronoi)
app.command()(analysis.report)
app.command()(analysis.paper)
app.command()(analysis.power)
app.command()(archive.export)
app.command("import")(archive.import_)
app.command()(evaluate.evaluate)
app.command()(evaluate.check_metrics)
quantizers.register(app)
app.add_typer(listing, name="list")
listing.command("quantizers")(quantizers.list_quantizers)
listing.command("studies")(run.list_studies)
listing.command("metrics")(evaluate.list_metrics)
listing.command("references")(evaluate.list_references)


def main() -> None:
    """Entry point of `codecbench`: mistakes of the user end with one message, not with a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except KeyboardInterrupt:
        print("stopped; nothing that was saved is lost", file=sys.stderr)
        sys.exit(130)
    except ValueError as error:
        # Every error class that is meant for users derives from ValueError and is named ...Error; a bare
        # ValueError is a mistake of ours and keeps its traceback.
        if type(error) is ValueError:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
