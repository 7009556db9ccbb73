"""Commands about quantizers: the list of them, their rates, their geometry, and the conformance check."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commands.display.terminal import PlainTable, messages, output
from experiments.commands.options import MOST_BITS, QuantizerNames, number

# Options that fix the rate of a quantizer, as `rates` prints them.
_RATE_OPTIONS = frozenset(
    {"levels", "codebook_size", "heads", "stages", "groups", "channels", "counts", "lattice", "bound"}
)
_COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


def list_quantizers() -> None:
    """List the registered quantizers: family, whether the codebook is learned, parameters, options, paper."""
    import quantizers

    table = PlainTable(
        *("quantizer", "family", "codebook", "parameters, dim 512", "options", "paper"),
        texts=("family", "codebook", "options", "paper"),
        ruled=True,
    )
    for name in quantizers.available():
        entry = quantizers.entry(name)
        quantizer = quantizers.create(name, dim=512)
        table.add(
            name,
            entry.cls.family,
            "learned" if entry.cls.learned else "fixed" if entry.cls.family != "none" else "none",
            f"{quantizer.learned_values:,}",
            ", ".join(entry.options) or "—",
            entry.paper or "—",
        )
    output().table(table)


def rates(
    names: QuantizerNames = None,
    bits: Annotated[
        float | None,
        typer.Option(parser=number(0, MOST_BITS, above=True), metavar="BITS", help="target bits a frame"),
    ] = None,
    bitrate: Annotated[
        float | None,
        typer.Option(parser=number(0, above=True), metavar="BIT/S", help="target bit/s; needs --frame-rate"),
    ] = None,
    frame_rate: Annotated[
        float | None, typer.Option(parser=number(0, above=True), metavar="HZ", help="frames a second")
    ] = None,
    dim: Annotated[int, typer.Option(min=1, max=65_536, help="feature channels")] = 512,
) -> None:
    """Print, for every quantizer, the configuration nearest a target rate and its exact bits."""
    import quantizers

    if bits is None:
        if bitrate is None or frame_rate is None:
            raise typer.BadParameter("give --bits, or --bitrate with --frame-rate")
        bits = bitrate / frame_rate
        if not 0 < bits <= MOST_BITS:
            raise typer.BadParameter(f"{bits:g} bits a frame; give a rate of at most {MOST_BITS:g}")
    speeds = ("bit/s", "tokens/s") if frame_rate else ()
    table = PlainTable(
        *("quantizer", "bits/frame", "off target", "streams", *speeds, "codebook sizes", "configuration"),
        texts=("codebook sizes", "configuration"),
        ruled=True,
    )
    for name in names or quantizers.available():
        try:
            quantizer = quantizers.create(name, dim=dim, bits=bits)
        except quantizers.QuantizerError as error:
            if names and name not in quantizers.available():
                raise
            blank = [""] * (len(table.columns) - 3)
            table.add(name, "—", *blank, str(error).removeprefix(f"{name}: "))
            continue
        if not quantizer.streams:
            continue
        exact = quantizer.bits_per_frame
        off = f"{100 * (exact / bits - 1):+.2f} %" + ("" if abs(exact / bits - 1) <= 0.02 else " (!)")
        speed = [f"{exact * frame_rate:,.1f}", f"{frame_rate * quantizer.streams:g}"] if frame_rate else []
        table.add(
            *(name, f"{exact:.4f}", off, str(quantizer.streams), *speed),
            _sizes(quantizer.codebook_sizes),
            _rate_options(quantizer.config),
        )
    console = output()
    console.table(table)
    console.say(
        f"Target {bits:.4f} bits a frame. (!): more than 2 % off; the family has no configuration nearer. "
        "`none` has no bits."
    )


def geometry(
    samples: Annotated[
        int, typer.Option(min=100, max=100_000_000, help="Monte-Carlo points for each lattice")
    ] = 100_000,
    bits: Annotated[
        float,
        typer.Option(
            parser=number(2, 16), metavar="BITS", help="of a pair, for finite grids of about equal size"
        ),
    ] = 6.34,
    seed: Annotated[int, typer.Option(min=0, help="of the Monte-Carlo points")] = 0,
) -> None:
    """Measure lattices and planar grids beside what theory says."""
    from rich.progress import track

    from quantizers.geometry import figures_of_merit

    lattices = PlainTable(
        *("lattice", "n", "second moment", "exact", "gain dB", "covering radius", "thickness"),
        *("packing density", "kissing number"),
        ruled=True,
    )
    for name in track(figures_of_merit.EXACT, "lattices", transient=True, console=messages()):
        points = max(1, samples // 20) if name == "Leech" else samples
        row = figures_of_merit.measure_lattice(name, points, seed)
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
        ruled=True,
    )
    for source in figures_of_merit.SOURCES:
        for kind, spacing in figures_of_merit.GRIDS:
            grid = figures_of_merit.measure_grid(kind, spacing, bits, source, 2 * samples, seed)
            grids.add(
                f"{source}, {kind}" + (f" ({spacing})" if spacing != "ideal" else ""),
                f"{grid.levels[0]} x {grid.levels[1]}",
                *(str(grid.points), f"{1e3 * grid.cell:.3f}", f"{1e3 * grid.edge:.3f}", f"{grid.scale:.3f}"),
                f"{1e3 * grid.best:.3f} ± {1e3 * grid.error:.3f}",
                f"{grid.best * grid.points:.4f}",
            )
    console.table(grids)
    console.say(
        "Second table: mean squared error a channel x 1000 on [-1, 1]^2, by range and at the best scale."
    )


def check_quantizer(
    target: Annotated[str, typer.Argument(help="a registered name, or module:Class of your own")],
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
    console.say(f"{target} keeps the contract")


def _sizes(sizes: tuple[int, ...]) -> str:
    """Codebook sizes, equal ones written once."""
    if len(set(sizes)) > 1:
        return ", ".join(f"{size:,}" for size in sizes)
    return f"{sizes[0]:,}" + (f" x {len(sizes)}" if len(sizes) > 1 else "")


def _rate_options(config: Any) -> str:
    """The options of a quantizer that fix its rate."""
    shown = []
    for field in dataclasses.fields(config):
        if field.name in _RATE_OPTIONS:
            value = getattr(config, field.name)
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            shown.append(f"{field.name}={text}")
    return ", ".join(shown)
