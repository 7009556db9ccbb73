"""Commands about quantizers: list them, their rates, their geometry, known sources, and the conformance
check."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.commands.options import Names, _print, _table
from experiments.commands.source_coding import source_coding

if TYPE_CHECKING:
    pass


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    app.command("rates")(rates)
    app.command("geometry")(geometry)
    app.command("source-coding")(source_coding)
    app.command("check-quantizer")(check_quantizer)


def list_quantizers() -> None:
    """Print every registered quantizer: family, whether its codebook is learned, parameters, options,
    paper."""
    import quantizers

    table = _table("quantizer", "family", "codebook", "parameters, dim 512", "options", "paper")
    for name in quantizers.available():
        found = quantizers.entry(name)
        built = quantizers.create(name, dim=512)
        learned = "learned" if found.cls.learned else "fixed" if found.cls.family != "none" else "none"
        table.add_row(
            name,
            found.cls.family,
            learned,
            f"{built.learned_values:,}",
            ", ".join(found.options) or "—",
            found.paper or "—",
        )
    _print(table)


def rates(
    names: Names = None,
    bits: Annotated[float | None, typer.Option(help="Target bits a frame.")] = None,
    bitrate: Annotated[float | None, typer.Option(help="Target bit/s; needs --frame-rate.")] = None,
    frame_rate: Annotated[float | None, typer.Option(help="Frames a second.")] = None,
    dim: Annotated[int, typer.Option(help="Feature channels.")] = 512,
) -> None:
    """Print, for every quantizer, the configuration nearest a target rate and its exact bits."""

    import quantizers

    if bits is None:
        if bitrate is None or frame_rate is None:
            raise typer.BadParameter("give --bits, or --bitrate with --frame-rate")
        bits = bitrate / frame_rate
    columns = ["quantizer", "bits/frame", "off target", "streams", "codebook sizes"]
    table = _table(*columns, *(["bit/s", "tokens/s"] if frame_rate else []), "configuration")
    for name in names or quantizers.available():
        try:
            quantizer = quantizers.create(name, dim=dim, bits=bits)
        except quantizers.QuantizerError as error:
            if names and name not in quantizers.available():
                raise
            table.add_row(name, "—", *[""] * (len(table.columns) - 3), str(error).removeprefix(f"{name}: "))
            continue
        if not quantizer.streams:
            continue
        exact = quantizer.bits_per_frame
        off = f"{100 * (exact / bits - 1):+.2f} %" + ("" if abs(exact / bits - 1) <= 0.02 else " (!)")
        sizes = quantizer.codebook_sizes
        shown = (
            f"{sizes[0]:,}" + (f" x {len(sizes)}" if len(sizes) > 1 else "")
            if len(set(sizes)) == 1
            else str(sizes)
        )
        speed = [f"{exact * frame_rate:,.1f}", f"{frame_rate * quantizer.streams:g}"] if frame_rate else []
        table.add_row(
            name, f"{exact:.4f}", off, str(quantizer.streams), shown, *speed, _fixed(quantizer.config)
        )
    _print(table)
    target = f"Target {bits:.4f} bits a frame."
    if math.isfinite(bits):
        typer.echo(
            f"{target} (!): more than 2 % off; the family has no configuration nearer. `none` has no bits."
        )


def geometry(
    samples: Annotated[int, typer.Option(help="Monte-Carlo points for each lattice.")] = 100_000,
    bits: Annotated[
        float, typer.Option(help="Bits of a pair, for finite grids at matched numbers of points.")
    ] = 6.34,
    seed: Annotated[int, typer.Option(help="Of the Monte-Carlo points.")] = 0,
) -> None:
    """Measure lattices and planar grids beside what theory says."""
    from rich.progress import track

    from quantizers.geometry import figures_of_merit as measured

    table = _table(
        *(
            "lattice",
            "n",
            "second moment",
            "exact",
            "gain dB",
            "covering radius",
            "thickness",
            "packing density",
        ),
        "kissing number",
    )
    for name in track(measured.EXACT, description="lattices", transient=True):
        row = measured.measure_lattice(name, samples if name != "Leech" else max(1, samples // 20), seed)
        table.add_row(
            *(row.name, str(row.dimension), f"{row.second_moment:.6f} ± {row.error:.6f}", f"{row.exact:.6f}"),
            *(
                f"{row.gain:.3f}",
                f"{row.covering_radius:.4f}",
                f"{row.thickness:.4f}",
                f"{row.packing_density:.6f}",
            ),
            f"{row.kissing_number:,}",
        )
    _print(table)
    finite = _table(
        "source", "grid", "levels", "points", "cell", "edge", "best scale", "error at best ± s.e.", "x points"
    )
    for source in measured.SOURCES:
        for kind, spacing in measured.GRIDS:
            grid = measured.measure_grid(kind, spacing, bits, source, 2 * samples, seed)
            finite.add_row(
                *(
                    source,
                    kind if spacing == "ideal" else f"{kind} ({spacing})",
                    f"{grid.levels[0]} x {grid.levels[1]}",
                ),
                *(str(grid.points), f"{1e3 * grid.cell:.3f}", f"{1e3 * grid.edge:.3f}", f"{grid.scale:.3f}"),
                f"{1e3 * grid.best:.3f} ± {1e3 * grid.error:.3f}",
                f"{grid.best * grid.points:.4f}",
            )
    _print(finite)
    typer.echo(
        "Second table: mean squared error a channel x 1000 on [-1, 1]^2, by range and at the best scale."
    )


def check_quantizer(
    target: Annotated[str, typer.Argument(help="A registered name, or module:Class of your own.")],
) -> None:
    """Run the conformance suite on a quantizer; exit with 1 if a check fails."""
    import inspect

    from quantizers.checks import conformance

    build = conformance.builder(target)
    table = _table("check", "result", "what it asks, or why not")
    failed = 0
    for result in conformance.check(build):
        failed += result.status == "failed"
        meaning = (inspect.getdoc(conformance.CHECKS[result.check]) or "").replace("\n", " ")
        colour = {"passed": "green", "failed": "red", "skipped": "yellow"}[result.status]
        table.add_row(result.check, f"[{colour}]{result.status}[/]", result.reason or meaning)
    _print(table)
    if failed:
        typer.echo(f"{target}: {failed} of {len(conformance.CHECKS)} checks failed")
        raise typer.Exit(1)
    typer.echo(f"{target} keeps the contract")


def _fixed(config: object) -> str:
    """The options that differ from their defaults, or fix the rate."""
    import dataclasses

    assert dataclasses.is_dataclass(config)
    rate = {"levels", "codebook_size", "heads", "stages", "groups", "channels", "counts", "lattice", "bound"}
    shown = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in rate:
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            shown.append(f"{field.name}={text}")
    return ", ".join(shown)
