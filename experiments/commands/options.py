"""Options that several commands share: each has one name, one meaning and one help text.

    def run(study: StudyFile, data: Corpus = None, changes: Changes = None) -> None: ...

A number or a path that cannot be is refused while the command line is read, before any work.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from experiments.common.machine import cores

MOST_BITS = 100_000.0  # a frame; the search for a configuration takes seconds there, and grows


def number(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[object], float]:
    """The parser of an option: a finite number from `least` (or above it) to `most`."""
    low = f"above {least:g}" if above else f"of {least:g} or more"
    wanted = f"a number {low}" + (f", at most {most:g}" if math.isfinite(most) else "")

    def parse(given: object) -> float:
        try:
            value = float(str(given))
        except ValueError:
            raise typer.BadParameter(f"{given!r}: give {wanted}") from None
        if not (math.isfinite(value) and (value > least if above else value >= least) and value <= most):
            raise typer.BadParameter(f"{given}: give {wanted}")
        return value

    return parse


def file_name(given: object) -> Path:
    """The parser of an option that names a file: not a folder, as `out/` is."""
    text = str(given)
    if not text or text.endswith(("/", "\\")) or Path(text).name in ("", ".."):
        raise typer.BadParameter(f"{text!r} names a folder; give the name of a file")
    return Path(text)


StudyFile = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="name of a shipped study (codecbench list studies), or path of a YAML file"
    ),
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="name of a study in the tracking store")]
Corpus = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="CORPUS",
        help="use another corpus: demo, folder:PATH, manifest:PATH, filelist:PATH, tar:ARCHIVES, "
        "librispeech:SUBSETS, libritts:SUBSETS, webdataset:SHARDS, tar-stream:ARCHIVES or datasets:NAME",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="change a key of the study, such as train.steps=200; repeatable"
    ),
]
ResultsFolder = Annotated[
    Path, typer.Option("--output", metavar="FOLDER", help="folder for tables and figures")
]
RunsFolder = Annotated[
    Path,
    typer.Option("--runs", metavar="FOLDER", help="folder with checkpoints; several machines may share it"),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, metavar="N", help="number of processes; default: one per core if memory allows"
    ),
]
RunsPerDevice = Annotated[
    int,
    typer.Option(
        "--runs-per-device", min=1, metavar="N", help="number of runs that train on one GPU at the same time"
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, or one GPU such as cuda:1")
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", metavar="URI", help="MLflow store; default: $MLFLOW_TRACKING_URI or ./mlflow.db"
    ),
]
OutputFormat = Annotated[
    Literal["console", "json"],
    typer.Option("--format", help="output format; docs/json.md describes the JSON document"),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="show results, warnings and errors, but no progress")
]
Style = Annotated[
    Literal["paper", "talk", "web"], typer.Option("--style", help="size and fonts of the figures")
]
Metrics = Annotated[
    str | None,
    typer.Option("--metrics", metavar="NAMES", help="metrics, separated by commas (codecbench list metrics)"),
]
QuantizerNames = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="names of quantizers; default: all")
]


def changes_of(changes: list[str] | None, corpus: str | None) -> list[str]:
    """The changes of a study that `--set` and `--data` ask for, `--data` last; a `data.test` stays."""
    if corpus is None:
        return [*(changes or [])]
    quoted = json.dumps(corpus, ensure_ascii=False)  # whatever YAML would read
    return [*(changes or []), f"data.corpus={quoted}"]


def names_of(text: str, option: str) -> list[str]:
    """The names of a comma-separated option, each once. Raises BadParameter where there are none."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter("give at least one name, or leave the option out", param_hint=option)
    return names


def worker_count(given: int | None) -> int:
    """Processes for light work: those asked for, else one per core."""
    return given or cores()


def chosen_device(name: str) -> str:
    """The device that `name` means here. Raises BadParameter where the machine has no such device."""
    import torch

    if name != "auto":
        try:
            device = torch.device(name)
            if device.type == "cuda":  # no context here, which would take memory of the card
                _check_gpu(device.index or 0)
            else:
                torch.zeros(1, device=device).tolist()  # `meta` makes tensors, but holds no values
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise typer.BadParameter(f"{name}: {reason}; use --device cpu", param_hint="--device") from None
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_gpu(index: int) -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise ValueError(f"there is no GPU {index} here, torch finds {count}")
