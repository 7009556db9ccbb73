"""`codecbench encode` and `codecbench decode`: a recording into a file of real bits, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import messages
from experiments.commands.options import Quiet, RunsFolder, TrackingUri

Input = Annotated[str, typer.Argument(metavar="IN", help="file to read, or - for stdin")]
Output = Annotated[str, typer.Argument(metavar="OUT", help="file to write, or - for stdout")]
TrainedRun = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="MLflow id or hash of a trained run, or its first digits"),
]
TrainedFolder = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="FOLDER", help="folder of a trained codec, instead of --run"),
]


def encode(
    source: Input,
    target: Output,
    run: TrainedRun = None,
    checkpoint: TrainedFolder = None,
    model: Annotated[
        Literal["static", "adaptive", "context"] | None,
        typer.Option(
            help="probability model of the codes, see docs/bitstream.md; default: the one that needs the "
            "fewest bits"
        ),
    ] = None,
    block: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=600,
            metavar="SECONDS",
            help="code in blocks of so many seconds, each of which can be decoded as it arrives; default one "
            "block up to a minute, blocks of 10 s for longer recordings",
        ),
    ] = None,
    directory: RunsFolder = Path("runs"),
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Encode a recording with a trained codec into a file of entropy-coded bits."""
    chosen = _chosen(run, checkpoint)
    _check_target(target)

    from experiments.commands.bitstreams import files

    trained = files.load(chosen, tracking_uri, directory)
    note = files.encode(trained, source, target, model, block, messages(quiet))
    messages(quiet).note(f"{_named(target)}: {note}")


def decode(
    source: Input,
    target: Output,
    run: TrainedRun = None,
    checkpoint: TrainedFolder = None,
    directory: RunsFolder = Path("runs"),
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Decode a file that `encode` wrote, with the same trained codec.

    The suffix of OUT decides the audio format; stdout gets WAV.
    """
    chosen = _chosen(run, checkpoint)
    _check_target(target)

    from experiments.commands.bitstreams import files

    kind = files.audio_format(target)
    trained = files.load(chosen, tracking_uri, directory)
    note = files.decode(trained, source, target, kind)
    messages(quiet).note(f"{_named(target)}: {note}")


def _chosen(run: str | None, checkpoint: Path | None) -> str | Path:
    if (run is None) == (checkpoint is None):
        raise typer.BadParameter("give the trained codec: either --run or --checkpoint", param_hint="--run")
    if checkpoint is not None and not checkpoint.exists():
        raise typer.BadParameter(f"there is no folder {checkpoint}", param_hint="--checkpoint")
    return checkpoint if checkpoint is not None else str(run)


def _check_target(target: str) -> None:
    """See that the output can be written, before any work."""
    if target != outputs.STANDARD_STREAM:
        outputs.check_file(Path(target), "OUT")
    elif typer.get_binary_stream("stdout").isatty():
        raise typer.BadParameter("a terminal shows no bytes; pipe them, or give a file", param_hint="OUT")


def _named(target: str) -> str:
    return "stdout" if target == outputs.STANDARD_STREAM else f"wrote {target}"
