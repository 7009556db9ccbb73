"""`codecbench push` and `pull`: trained models to and from a hub or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.display.terminal import messages, output
from experiments.commands.options import Quiet, RunsFolder, TrackingUri
from experiments.commands.sharing import places
from experiments.tracking.store import store_uri


def push(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="MLflow id or hash of a run, or the beginning of one")
    ],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="hf://OWNER/NAME, or folder:PATH for a local folder")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="a new repository is visible to its owner alone")
    ] = False,
    licence: Annotated[
        str, typer.Option(metavar="NAME", help="licence of the weights for the card, such as cc-by-4.0")
    ] = "",
    directory: RunsFolder = Path("runs"),
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Share the trained codec of a run: weights, configuration and a model card with its results."""
    place = places.parse(target, "TARGET")

    from experiments.commands.sharing import models

    address = models.push(
        run,
        place,
        uri=store_uri(tracking_uri),
        runs_folder=directory,
        private=private,
        licence=licence.strip(),
        quiet=quiet,
    )
    output().say(f"wrote the model of {run} to {address}", to_copy=True)


def pull(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="hf://OWNER/NAME, or folder:PATH for a local folder")
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="folder to write to; default NAME")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="branch, tag or commit of the hub; default main")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fetch a shared codec and check it; the folder loads like that of a run."""
    place = places.parse(source, "SOURCE")
    target = folder or Path(place.name)

    from experiments.commands.sharing import models

    config = models.pull(place, target, revision=revision, quiet=quiet)
    output().say(
        f"wrote {config.label} ({config.quantizer.name}, {config.sample_rate} Hz) to {target}", to_copy=True
    )
    messages(quiet).note(f"analysis.load_codec({str(target)!r}) loads it", to_copy=True)
