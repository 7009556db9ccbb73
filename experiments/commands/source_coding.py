"""`codecbench source-coding`: quantizers on known sources, beside Shannon's bound."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from quantizers.checks.source_coding import Recorded
from experiments.commands.options import Names, _print, _table


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
        from analysis.figures.source_coding import draw

        draw(points, figure, dim)
        typer.echo(f"curves: {figure}")


def _recorded(study: str, data: str | None, tracking_uri: str | None) -> Recorded:
    """Features of the unquantized codec of a study, on its corpus."""
    import tempfile

    import yaml
    from rich.progress import Progress

    from analysis import ResultsError, load
    from experiments.commands.progress import progress_bar
    from experiments.data import prepare
    from experiments.evaluation import recorded_features as recorded_frames
    from experiments.tracking import logged_model
    from experiments.tracking.store import Store, store_uri

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
