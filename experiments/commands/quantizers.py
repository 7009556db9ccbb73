"""Commands about quantizers: list them, their rates, their geometry, known sources, and the conformance
check."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from quantizers.checks.source_coding import Recorded

Names = Annotated[list[str] | None, typer.Argument(help="Registered names; none means all.")]


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
    import math

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


def source_coding(
    names: Names = None,
    bits: Annotated[str, typer.Option(help="Bits a value, separated by commas.")] = "1,2,3",
    sources: Annotated[str, typer.Option(help="Sources, separated by commas; `all` for every one.")] = "all",
    dim: Annotated[int, typer.Option(help="Values in a block of a known source.")] = 8,
    steps: Annotated[int, typer.Option(help="Training steps of each quantizer.")] = 200,
    latents: Annotated[
        str | None,
        typer.Option(help="Instead of known sources: the features of this study's unquantized codec."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Its corpus, where that has moved.")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; default MLFLOW_TRACKING_URI, or ./mlflow.db")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one a core.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Write the curves to this file (.png, .svg, .pdf).")
    ] = None,
) -> None:
    """Run quantizers on sources with a known rate-distortion function, and print the gap to Shannon's
    bound; or on features of a trained codec, beside a Gaussian source's bound."""
    import os
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from rich.progress import Progress

    from quantizers import QuantizerError, registry
    from quantizers.checks import source_coding as known

    chosen: list[known.Source] = [*known.SOURCES] if sources == "all" else [*sources.split(",")]
    for source in chosen:
        if source not in known.SOURCES:
            raise QuantizerError(f"unknown source {source!r}; known: {', '.join(known.SOURCES)}")
    try:
        targets = [float(value) for value in bits.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--bits must be numbers separated by commas, not {bits!r}") from None
    quantizers = names or list(DEFAULT_SOURCE_CODERS)
    for name in quantizers:
        registry.entry(name)  # a wrong name ends here, not after minutes
    if latents is not None:
        chosen = [_recorded(latents, data, tracking_uri)]
    table = _table(
        "source", "quantizer", "bits/value", "SNR dB", "± s.e.", "Shannon dB", "high rate dB", "gap dB"
    )
    points: list[known.Point] = []
    refusals = {}
    pool = ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn"))
    with pool, Progress(transient=True) as progress:
        jobs = {
            pool.submit(known.run, name, source, targets, dim=dim, steps=steps): name
            for name in quantizers
            for source in chosen
        }
        task = progress.add_task("source coding", total=len(jobs))
        for job in as_completed(jobs):
            progress.advance(task)
            found, refusal = job.result()
            points += found
            if refusal:
                refusals[jobs[job]] = refusal
    order = [*known.SOURCES, known.RECORDED]

    def place(point: known.Point) -> tuple[int, float, float, str]:
        target = min(targets, key=lambda bits: abs(bits - point.bits))
        return order.index(point.source), target, point.gap, point.quantizer

    # One configuration may be the nearest to two targets.
    points = sorted({(p.source, p.quantizer, p.bits): p for p in points}.values(), key=place)
    for point in points:
        high_rate = "—" if math.isnan(point.high_rate) else f"{point.high_rate:.2f}"
        table.add_row(
            *(point.source, point.quantizer, f"{point.bits:.3f}", f"{point.snr:.2f}", f"{point.error:.2f}"),
            *(f"{point.shannon:.2f}", high_rate, f"{point.gap:.2f}"),
        )
    _print(table)
    for name, reason in sorted(refusals.items()):
        typer.echo(f"left out: {name}: {reason.removeprefix(f'{name}: ')}")
    if figure is not None:
        from analysis.source_coding_figure import draw

        draw(points, figure, dim)
        typer.echo(f"curves: {figure}")


def _recorded(study: str, data: str | None, tracking_uri: str | None) -> Recorded:
    """Features of the unquantized codec of a study, on its corpus."""
    import tempfile

    import yaml
    from rich.progress import Progress

    from analysis import ResultsError, load
    from experiments import logged_model, recorded_frames
    from experiments.data import prepare, progress_bar
    from experiments.tracking import Store, store_uri

    results = load(study, tracking_uri)
    runs = results.finished[results.finished["quantizer"] == "none"].sort_values("seed", kind="stable")
    if runs.empty:
        raise ResultsError(f"study {study!r} has no finished run of `none`; add it to its quantizers")
    run = runs.iloc[0]
    described = results.artifact(run["run_id"], "config.yaml")
    spec = data or results.settings["data.corpus"]
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(store_uri(tracking_uri), study)
        weights = logged_model.fetch(store, run["run_id"], Path(temporary))
        if weights is None or described is None:
            raise ResultsError(
                f"run {run['run_id']} of study {study!r} has no weights in the store; train it again with "
                f"`codecbench run {study} --force`"
            )
        codec = recorded_frames.unquantized(yaml.safe_load(described.read_text(encoding="utf-8")), weights)
    with progress_bar() as preparing:
        shards = prepare(spec, sample_rate=codec.sample_rate, progress=preparing)
    if shards.content_hash != run["corpus_hash"]:
        raise ResultsError(f"{spec} is not the corpus of the study; give that with --data")
    with Progress(transient=True) as progress:
        task = progress.add_task("recording features")
        return recorded_frames.record(
            codec, shards, lambda done, total: progress.update(task, completed=done, total=total)
        )


DEFAULT_SOURCE_CODERS = (
    *("vq", "rvq", "grouped-rvq", "residual-simvq", "rvq-factorized", "fsq", "residual-fsq", "latent", "fsp"),
    *("q2d2-hex", "q2d2-rect", "q2d2-rhombic", "q2d2-hex-released", "lattice", "lfq", "bsq"),
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


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        numeric = index > 0 and column.split()[0] not in (
            "configuration",
            "options",
            "paper",
            "family",
            "codebook",
            "what",
        )
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    # A table is not cut to a default width of 80 where the output is a file.
    Console(width=None if console.is_terminal else 200).print(table)
