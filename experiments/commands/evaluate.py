"""Commands that score audio: any two folders, the check of the metrics themselves, and the list of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from experiments.evaluation.audio_pairs import Pairs

Item = TypeVar("Item")


def evaluate(
    reference_dir: Annotated[Path, typer.Argument(help="folder of original recordings")],
    reconstructed_dirs: Annotated[
        list[Path] | None,
        typer.Argument(help="folder of decoded audio; several are compared in one table"),
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(help="a reference codec instead of a folder, such as opus:12000 (list references)"),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="name of each system; default the folder's name")
    ] = None,
    bitrate: Annotated[list[float] | None, typer.Option(help="bit/s of each folder's system")] = None,
    study: Annotated[
        str | None, typer.Option(help="put the rows into this study's table, as references")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store of --study; default MLFLOW_TRACKING_URI, or ./mlflow.db")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="comma-separated; default the core set")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV with the columns reference, reconstruction [, name]")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="every score, as .csv or .parquet")] = None,
    summary: Annotated[Path | None, typer.Option(help="the aggregates, as .csv or .parquet")] = None,
    workers: Annotated[int | None, typer.Option(help="processes; default one a core")] = None,
    reference_cache: Annotated[
        Path | None, typer.Option(help="folder to keep what is computed from the references in")
    ] = None,
) -> None:
    """Score decoded audio against the originals, so that any codec gets a comparable row."""
    import tempfile

    import pandas as pd

    from codec import references
    from experiments.evaluation.audio_pairs import match_folders, read_manifest, recordings
    from experiments.evaluation.codec_files import reconstruct_files
    from experiments.evaluation.scores import EvaluationError, aggregate, require

    folders = reconstructed_dirs or []
    asked = [references.parse(text) for text in codec or []]
    codecs = [references.create(kind, options) for kind, options in asked]
    if not folders and not codecs:
        raise EvaluationError("nothing to score: give a folder of decoded audio, or --codec")
    kinds = ["folder" for _ in folders] + [kind for kind, _ in asked]
    sources: list[Path | references.Reference] = [*folders, *codecs]
    default_names = [path.resolve().name for path in folders] + [found.label for found in codecs]
    names = _per_system("--name", name, default_names)
    bitrates = [*_per_system("--bitrate", bitrate, [None] * len(folders)), *[None for _ in codecs]]
    if study is not None:
        from analysis import load

        load(study, tracking_uri)  # an unknown study is told before any work
    if len(set(names)) < len(names):
        raise EvaluationError(
            f"two systems are called the same: {', '.join(names)}; tell them apart by --name"
        )
    for path in (output, summary):
        _check_suffix(path)
    metric_names = _metric_names(metrics)
    require(metric_names)
    # All folders are looked at before anything is scored.
    matched: list[Pairs | None] = [
        read_manifest(pairs, reference_dir, folder) if pairs else match_folders(reference_dir, folder)
        for folder in folders
    ]
    recorded = recordings(reference_dir) if codecs else {}
    matched += [None for _ in codecs]
    for reference in codecs:
        reference.prepare()  # what is missing is told before any work
    console = _console()
    every, aggregates = [], []
    with tempfile.TemporaryDirectory() as temporary:
        systems = zip(names, bitrates, kinds, sources, matched, strict=True)
        for system, rate, kind, source, found in systems:
            if found is None:
                assert isinstance(source, references.Reference)
                decoded = Path(tempfile.mkdtemp(prefix="decoded-", dir=temporary))
                console.print(f"[bold]{_safe(system)}[/]: encoding and decoding", soft_wrap=True)
                found, rate = reconstruct_files(source, recorded, decoded)
            cache = reference_cache or Path(temporary)
            frame = _score(console, system, found, metric_names, workers or _cores(), cache)
            if study is not None:
                _add_to_study(study, tracking_uri, system, kind, frame, rate, reference_dir, found)
            labels = {"system": system, "bitrate": rate}
            every.append(frame.assign(**labels))
            aggregates.append(aggregate(frame).assign(**labels, protocol=frame["protocol"].iloc[0]))
    table = pd.concat(aggregates, ignore_index=True)
    _print_table(console, table)
    _write(console, pd.concat(every, ignore_index=True), output)
    _write(console, table.assign(worst=table["worst"].map("; ".join)), summary)
    if not table["scored"].any():
        console.print("[red]nothing could be scored[/]; the reasons are in the table")
        raise typer.Exit(1)


def list_references() -> None:
    """List the codecs from outside and the controls that can stand beside quantizers."""
    from rich.table import Table

    from codec import references

    table = Table("name", "option of NAME:VALUE", "what it is", box=None)
    for name in references.available():
        cls = references.get(name)
        table.add_row(name, cls.main_option or "-", cls.summary)
    _console().print(table)


def check_metrics(
    metrics: Annotated[
        str | None, typer.Option(help="comma-separated; default all that can run here")
    ] = None,
) -> None:
    """Compute every metric on built-in signals and compare with the values that it should give."""
    from rich.table import Table

    from experiments.metrics.golden import check

    console = _console()
    table = Table("metric", "signals", "obtained", "expected", "tolerance", "backend", "", box=None)
    failed, skipped = 0, {}
    for result in check(None if metrics is None else _metric_names(metrics)):
        if result.skipped:
            skipped[result.metric] = result.reason
            continue
        obtained = "" if result.obtained is None else f"{result.obtained:.5f}"
        verdict = "[green]ok[/]" if result.ok else f"[red]differs[/] {_safe(result.reason)}"
        failed += not result.ok
        table.add_row(
            result.metric,
            result.pair,
            obtained,
            f"{result.expected:.5f}",
            f"{result.tolerance:g}",
            result.backend,
            verdict,
        )
    console.print(table)
    for reason in dict.fromkeys(skipped.values()):
        console.print(f"not checked: {_safe(reason)}", soft_wrap=True)
    if failed:
        console.print(f"{failed} values differ: a backend is another version, or broken")
        raise typer.Exit(1)


def list_metrics() -> None:
    """List all metrics: what each is good for, what it costs, and how to install what is missing."""
    from rich.table import Table

    from experiments import metrics

    columns = ("metric", "unit", "better", "rate", "backend", "cost", "licence", "good for")
    table = Table(*columns, box=None)
    for name in metrics.available():
        metric = metrics.get(name)
        good_for = metric.summary if metric.deterministic else f"{metric.summary} (not deterministic)"
        if metric.missing():
            good_for += f"; pip install {metric.install}"
        table.add_row(
            name + ("*" if metric.core else ""),
            metric.unit or "-",
            "higher" if metric.higher_is_better else "lower",
            str(metric.sample_rate or "own"),
            metric.version(),
            metric.cost,
            metric.licence,
            _safe(good_for),
        )
    console = _console()
    console.print(table)
    console.print("* in the core set. Cost: CPU seconds a second of audio, on one thread. Rate in Hz.")


def _add_to_study(
    study: str,
    tracking_uri: str | None,
    system: str,
    kind: str,
    frame: pd.DataFrame,
    bitrate: float | None,
    folder: Path,
    pairs: Pairs,
) -> None:
    from experiments.execution import added_rows
    from experiments.tracking import store as tracking

    added_rows.add(
        study,
        tracking.store_uri(tracking_uri),
        label=system,
        codec=kind,
        scores=frame,
        bitrate=bitrate,
        corpus=folder.resolve().name,
        corpus_hash=added_rows.digest_of(pairs.references),
    )


def _score(
    console: Console, system: str, pairs: Pairs, names: tuple[str, ...], workers: int, cache: Path
) -> pd.DataFrame:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from experiments.evaluation.folders import by_sample_rate, score_pairs

    rates = ", ".join(f"{len(group)} at {rate} Hz" for rate, group in by_sample_rate(pairs).items())
    console.print(f"[bold]{_safe(system)}[/]: {len(pairs.references)} utterances ({rates})")
    for what, extra in (
        ("no reconstruction (counted as failed) of", pairs.only_references),
        ("left out, no reference for", pairs.only_reconstructions),
        ("not read:", pairs.left_out),
    ):
        if extra:
            shown = ", ".join(_safe(name) for name in extra[:5]) + (", ..." if len(extra) > 5 else "")
            console.print(f"  {what} {len(extra)}: {shown}")
    columns = (TextColumn("  scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("scoring", total=len(pairs.references))
        return score_pairs(
            pairs,
            names,
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done),
            reference_cache=cache,
        )


def _print_table(console: Console, table: pd.DataFrame) -> None:
    """One system: a row a metric, with failures and the worst. Several: a row a system."""
    from rich.table import Table

    from experiments import metrics

    systems = table["system"].unique()
    labels = {name: metrics.get(name).label for name in table["metric"].unique()}
    if len(systems) == 1:
        shown = Table("metric", "mean", "95 %", "median", "scored", "failed", "worst", box=None)
        for row in table.to_dict("records"):
            shown.add_row(
                labels[row["metric"]],
                _number(row["mean"]),
                f"{_number(row['low'])} to {_number(row['high'])}",
                _number(row["median"]),
                f"{row['scored']}/{row['asked']}",
                _safe(row["reasons"]),
                _safe(", ".join(row["worst"][:1])),
            )
    else:
        shown = Table("system", "kbit/s", *labels.values(), "failed", box=None)
        for system in systems:
            rows = table[table["system"] == system].to_dict("records")
            rate = rows[0]["bitrate"]
            cells = [f"{_number(row['mean'])} ±{_number((row['high'] - row['low']) / 2)}" for row in rows]
            failures = sum(row["failed"] for row in rows)
            shown.add_row(
                _safe(system),
                f"{rate / 1000:g}" if rate == rate and rate is not None else "-",
                *cells,
                str(failures),
            )
    console.print(shown)
    console.print(
        f"protocol {table['protocol'].iloc[0]}; 95 % bootstrap interval of the mean over utterances"
    )


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def _safe(text: str) -> str:
    """File names and reasons as they may be printed: no markup, nothing that moves the cursor."""
    from rich.markup import escape

    return escape(
        "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    )


def _per_system(option: str, given: Sequence[Item] | None, default: Sequence[Item]) -> Sequence[Item]:
    from experiments.evaluation.scores import EvaluationError

    if not given:
        return default
    if len(given) != len(default):
        raise EvaluationError(
            f"{option} is given {len(given)} times for {len(default)} folders; give one for each"
        )
    return given


def _metric_names(text: str | None) -> tuple[str, ...]:
    from experiments import metrics

    if text is None:
        return metrics.core()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise metrics.MetricUnavailable(f"--metrics names none; known: {', '.join(metrics.available())}")
    for name in names:
        metrics.get(name)
    return names


def _check_suffix(path: Path | None) -> None:
    from experiments.evaluation.scores import EvaluationError

    if path is not None and path.suffix not in (".csv", ".parquet"):
        raise EvaluationError(f"{path}: write to a file that ends in .csv or .parquet")


def _write(console: Console, frame: pd.DataFrame, path: Path | None) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    console.print(f"wrote {_safe(str(path))}")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
