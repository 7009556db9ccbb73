"""`codecbench source-coding`: quantizers on known sources, beside Shannon's bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from experiments.commands import outputs
from experiments.commands.display.terminal import PlainTable, messages, output
from experiments.commands.options import (
    Corpus,
    OutputFormat,
    QuantizerNames,
    Quiet,
    TrackingUri,
    Workers,
    file_name,
    names_of,
    number,
    worker_count,
)
from experiments.common import child_processes

if TYPE_CHECKING:
    from quantizers.checks.source_coding import Point
    from quantizers.checks.sources import Recorded, Source

DEFAULT_QUANTIZERS = (
    *("vq", "rvq", "grouped-rvq", "residual-simvq", "rvq-factorized", "fsq", "residual-fsq", "latent", "fsp"),
    *("q2d2-hex", "q2d2-rect", "q2d2-rhombic", "q2d2-hex-released", "lattice", "lfq", "bsq"),
)
_PRELOADED = ("torch", "quantizers.checks.source_coding")
_MOST_BITS = 16.0  # a value


def source_coding(
    names: QuantizerNames = None,
    bits: Annotated[
        str, typer.Option(metavar="NUMBERS", help="bits per value, separated by commas")
    ] = "1,2,3",
    sources: Annotated[
        str, typer.Option(metavar="NAMES", help="sources, separated by commas, or all")
    ] = "all",
    dim: Annotated[
        int, typer.Option(min=1, max=4096, metavar="N", help="values per block of a known source")
    ] = 8,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="training steps of each quantizer")] = 200,
    options: Annotated[
        str | None,
        typer.Option(metavar="YAML", help="options of the named quantizers, such as '{gradient: diveq}'"),
    ] = None,
    rate_weight: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="entropy-constrained training: squared error per bit per value, separated by commas; "
            "results are shown at the measured entropy",
        ),
    ] = None,
    latents: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY", help="quantize features of the unquantized codec of this study instead"
        ),
    ] = None,
    data: Corpus = None,
    tracking_uri: TrackingUri = None,
    workers: Workers = None,
    format: OutputFormat = "console",
    quiet: Quiet = False,
    figure: Annotated[
        Path | None,
        typer.Option(parser=file_name, metavar="FILE", help="draw the curves to a file: .png, .svg or .pdf"),
    ] = None,
) -> None:
    """Compare quantizers with the Shannon bound on sources whose rate-distortion function is known.

    Quantizers start from data. Where values depend on each other, channels and levels fit them.

    With --latents: on features of a trained codec, with the bound of a Gaussian source.
    """
    weights = [0.0]
    if rate_weight is not None:
        weights = [number(0, 1e6, above=True)(value) for value in names_of(rate_weight, "--rate-weight")]
    given = _options(options, names)
    parse = number(0, _MOST_BITS, above=True)
    targets = [parse(value) for value in names_of(bits, "--bits")]
    outputs.check_file(figure, "--figure", (".png", ".svg", ".pdf"))

    from quantizers import QuantizerError, registry
    from quantizers.checks import source_coding as known
    from quantizers.checks.sources import RECORDED, SOURCES

    chosen: list[Source | Recorded]
    chosen = [*SOURCES] if sources == "all" else [*names_of(sources, "--sources")]
    for source in chosen:
        if source not in SOURCES:
            raise QuantizerError(f"unknown source {source!r}; known: {', '.join(SOURCES)}")
    quantizers = names or list(DEFAULT_QUANTIZERS)
    for name in quantizers:
        known_options = registry.entry(name).options  # a wrong name ends here, not after minutes
        if wrong := [option for option in given if option not in known_options]:
            raise QuantizerError(
                f"--options: {name} has no option {wrong[0]!r}; its options: {', '.join(known_options)}"
            )
    console = messages(quiet)
    if latents is not None:
        from experiments.commands import recorded

        chosen = [recorded.features(latents, data, tracking_uri, console)]
    points: list[Point] = []
    refusals = {}
    with (
        child_processes.pool(worker_count(workers), _PRELOADED) as pool,
        Progress(transient=True, console=console, disable=console.muted) as display,
    ):
        jobs = {
            pool.submit(
                known.run, name, source, targets, dim=dim, steps=steps, options=given, rate_weight=weight
            ): name
            for name in quantizers
            for source in chosen
            for weight in weights
        }
        task = display.add_task("source coding", total=len(jobs))
        for job in as_completed(jobs):
            display.advance(task)
            measured, refusal = job.result()
            points += measured
            if refusal:
                refusals[jobs[job]] = refusal
    points = _sorted(points, targets, [*SOURCES, RECORDED])
    if format == "json":
        from experiments.commands.documents import bottlenecks, document

        shown = [bottlenecks.SourcePoint.model_validate(asdict(point)) for point in points]
        document.emit(bottlenecks.SourceCodingDocument(points=shown, left_out=refusals))
    else:
        _print(points, refusals, weighted=rate_weight is not None)
    if figure is not None:
        from analysis.figures.source_coding import draw

        if problem := outputs.save(figure, _drawing(draw, points, dim)):
            raise outputs.OutputError(problem)
        messages().say(f"curves: {figure}")


def _options(text: str | None, names: Sequence[str] | None) -> dict[str, Any]:
    """The options that `--options` gives to the named quantizers. Raises OutputError."""
    if text is None:
        return {}
    from experiments.studies.plain_yaml import read

    try:
        values = read(text)
    except ValueError as error:
        raise outputs.OutputError(f"--options: {error}") from None
    if not isinstance(values, dict) or not names:
        raise outputs.OutputError(
            "--options: give names of quantizers, and a mapping such as '{gradient: diveq}' for all of them"
        )
    return {str(key): value for key, value in values.items()}


def _drawing(draw: Callable[..., None], points: Sequence[Point], dim: int) -> Callable[[Path], None]:
    return lambda path: draw(points, path, dim)


def _sorted(points: Sequence[Point], targets: Sequence[float], order: Sequence[str]) -> list[Point]:
    """Points by source, target and gap; a configuration that is the nearest to two targets stands once."""

    def place(point: Point) -> tuple[int, float, float, str]:
        target = min(targets, key=lambda bits: abs(bits - point.bits))
        return order.index(point.source), target, point.gap, point.quantizer

    return sorted({(p.source, p.quantizer, p.bits): p for p in points}.values(), key=place)


def _print(points: Sequence[Point], refusals: dict[str, str], weighted: bool = False) -> None:
    """Print a row for each point.

    The columns before the gap are: for recorded features, the channels and what they allow; for known
    sources, the high-rate prediction, or with a weight of the rate the entropy-coded scalar quantizer.
    """
    from quantizers.checks.sources import RECORDED

    recorded = any(point.source == RECORDED for point in points)
    beside = ("channels", "ceiling dB") if recorded else ("coded dB" if weighted else "high rate dB",)
    table = PlainTable(
        *("source", "quantizer", "bits/value", "SNR dB", "± s.e.", "Shannon dB", *beside, "gap dB"),
        texts=("quantizer",),
        keys=3,
        ruled=True,
    )
    for point in points:
        theory = point.entropy_coded if weighted else point.high_rate
        cells = (_cell(point.channels, 0), _cell(point.ceiling)) if recorded else (_cell(theory),)
        table.add(
            *(point.source, point.quantizer, _cell(point.bits, 3), _cell(point.snr), _cell(point.error)),
            *(_cell(point.shannon), *cells, _cell(point.gap)),
        )
    console = output()
    console.table(table)
    for name, reason in sorted(refusals.items()):
        console.say(f"left out: {name}: {reason.removeprefix(f'{name}: ')}")


def _cell(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "—"
