"""Commands about quantizers: the list of them, their rates, their geometry, and the conformance check."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.display.terminal import PlainTable, messages, output
from experiments.commands.options import MOST_BITS, OutputFormat, QuantizerNames, Quiet, number

_COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


def list_quantizers(format: OutputFormat = "console") -> None:
    """List all quantizers: family, codebook, parameters, options and paper."""
    from experiments.commands.documents import document, measured

    listed = measured.listed_quantizers()
    if format == "json":
        document.emit(listed)
        return
    table = PlainTable(
        *("quantizer", "family", "codebook", "parameters, dim 512", "options", "paper"),
        texts=("family", "codebook", "options", "paper"),
        ruled=True,
    )
    for one in listed.quantizers:
        parameters, options = f"{one.parameters:,}", ", ".join(one.options) or "—"
        table.add(one.name, one.family, one.codebook, parameters, options, one.paper or "—")
    output().table(table)


def rates(
    names: QuantizerNames = None,
    bits: Annotated[
        float | None,
        typer.Option(
            parser=number(0, MOST_BITS, above=True), metavar="BITS", help="target in bits per frame"
        ),
    ] = None,
    bitrate: Annotated[
        float | None,
        typer.Option(
            parser=number(0, above=True), metavar="BIT/S", help="target in bit/s; needs --frame-rate"
        ),
    ] = None,
    frame_rate: Annotated[
        float | None, typer.Option(parser=number(0, above=True), metavar="HZ", help="frames per second")
    ] = None,
    dim: Annotated[int, typer.Option(min=1, max=65_536, metavar="N", help="channels of the features")] = 512,
    format: OutputFormat = "console",
) -> None:
    """Print the configuration of each quantizer that is nearest to a target rate, with its exact rate."""
    if bits is None:
        if bitrate is None or frame_rate is None:
            raise typer.BadParameter("give --bits, or --bitrate with --frame-rate")
        bits = bitrate / frame_rate
        if not 0 < bits <= MOST_BITS:
            raise typer.BadParameter(f"{bits:g} bits per frame; give a rate of at most {MOST_BITS:g}")

    from experiments.commands.documents import document, measured

    nearest = measured.rates(names, bits, frame_rate, dim)
    if format == "json":
        document.emit(nearest)
        return
    speeds = ("bit/s", "tokens/s") if frame_rate else ()
    table = PlainTable(
        *("quantizer", "bits/frame", "off target", "streams", *speeds, "codebook sizes", "configuration"),
        texts=("codebook sizes", "configuration"),
        ruled=True,
    )
    for one in nearest.quantizers:
        if one.bits_per_frame is None or one.off is None:
            table.add(one.name, "—", *[""] * (len(table.columns) - 3), one.reason)
            continue
        off = f"{one.off:+.2f} %" + ("" if abs(one.off) <= 2 else " (!)")
        speed = [f"{one.bitrate:,.1f}", f"{one.token_rate:g}"] if frame_rate else []
        table.add(
            *(one.name, f"{one.bits_per_frame:.4f}", off, str(one.streams), *speed),
            _sizes(one.codebook_sizes),
            ", ".join(f"{key}={_option(value)}" for key, value in one.options.items()),
        )
    console = output()
    console.table(table)
    console.say(
        f"Target {bits:.4f} bits per frame. (!): more than 2 % off; the family has no configuration nearer. "
        "`none` has no bits."
    )


def geometry(
    samples: Annotated[
        int, typer.Option(min=100, max=100_000_000, metavar="N", help="Monte Carlo points per lattice")
    ] = 100_000,
    bits: Annotated[
        float,
        typer.Option(
            parser=number(2, 16), metavar="BITS", help="bits per pair of channels of the planar grids"
        ),
    ] = 6.34,
    seed: Annotated[int, typer.Option(min=0, metavar="SEED", help="seed of the Monte Carlo points")] = 0,
    format: OutputFormat = "console",
    quiet: Quiet = False,
) -> None:
    """Measure lattices and planar grids, and compare them with theory."""
    from experiments.commands.documents import document, measured

    figures = measured.geometry(samples, bits, seed, messages(quiet))
    if format == "json":
        document.emit(figures)
        return
    lattices = PlainTable(
        *("lattice", "n", "second moment", "exact", "gain dB", "covering radius", "thickness"),
        *("packing density", "kissing number"),
        ruled=True,
    )
    for row in figures.lattices:
        lattices.add(
            *(row.name, str(row.dimension), f"{row.second_moment:.6f} ± {row.error:.6f}", f"{row.exact:.6f}"),
            *(f"{row.gain:.3f}", f"{row.covering_radius:.4f}", f"{row.thickness:.4f}"),
            *(f"{row.packing_density:.6f}", f"{row.kissing_number:,}"),
        )
    console = output()
    console.table(lattices)
    grids = PlainTable(
        *("source and grid", "levels", "points", "cell", "edge", "best scale", "error at best ± s.e."),
        "x points",
        keys=2,
        ruled=True,
    )
    for grid in figures.grids:
        best, error = grid.best or 0.0, grid.error or 0.0
        grids.add(
            f"{grid.source}, {grid.kind}" + (f" ({grid.spacing})" if grid.spacing != "ideal" else ""),
            f"{grid.levels[0]} x {grid.levels[1]}",
            *(str(grid.points), f"{1e3 * (grid.cell or 0.0):.3f}", f"{1e3 * (grid.edge or 0.0):.3f}"),
            *(f"{grid.scale:.3f}", f"{1e3 * best:.3f} ± {1e3 * error:.3f}", f"{best * grid.points:.4f}"),
        )
    console.table(grids)
    console.say(
        "Second table: mean squared error per channel x 1000 on [-1, 1]^2, by range and at the best scale."
    )


def check_quantizer(
    target: Annotated[
        str, typer.Argument(metavar="NAME", help="name of a quantizer, or module:Class of your own")
    ],
) -> None:
    """Run the conformance suite on a quantizer; exit with 1 if a check fails."""
    from quantizers.checks import conformance

    if str(Path.cwd()) not in sys.path:  # a module of the working folder, after all installed ones
        sys.path.append(str(Path.cwd()))
    build = conformance.builder(target)
    columns = ("check", "result", "meaning, or why not")
    table = PlainTable(*columns, texts=columns[1:], ruled=True)
    failed = 0
    for result in conformance.check(build):
        failed += result.status == "failed"
        meaning = (inspect.getdoc(conformance.CHECKS[result.check]) or "").replace("\n", " ")
        table.add(result.check, (result.status, _COLOURS[result.status]), result.reason or meaning)
    console = output()
    console.table(table)
    if failed:
        console.say(f"{target}: {failed} of {len(conformance.CHECKS)} checks failed")
        raise typer.Exit(1)
    console.say(f"{target} passes all checks")


def _sizes(sizes: Sequence[int]) -> str:
    """Codebook sizes, equal ones written once."""
    if len(set(sizes)) > 1:
        return ", ".join(f"{size:,}" for size in sizes)
    return f"{sizes[0]:,}" + (f" x {len(sizes)}" if len(sizes) > 1 else "")


def _option(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
