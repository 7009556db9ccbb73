"""Scoring for `codecbench evaluate`: systems are checked, then scored one by one, shown, and written."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments import metrics
from experiments.commands import outputs
from experiments.commands.display.terminal import Console, PlainTable, messages, output
from experiments.commands.documents import document
from experiments.commands.documents.audio import evaluate_document
from experiments.commands.options import worker_count
from experiments.evaluation import audio_pairs
from experiments.evaluation.audio_pairs import Pairs
from experiments.evaluation.codec_files import reconstruct_files
from experiments.evaluation.folders import by_sample_rate, score_pairs
from experiments.evaluation.scores import EvaluationError, aggregate, require
from experiments.tracking.store import store_uri

if TYPE_CHECKING:
    from codec.references import Reference

Item = TypeVar("Item")
_SHOWN = 5  # names of unpaired files


@dataclass(frozen=True, kw_only=True)
class System:
    """What gets a row: a folder of decoded audio, or a reference codec. bitrate: bit/s, None if unknown."""

    name: str
    kind: str
    source: Path | Reference
    bitrate: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """every: a row per system, utterance and metric. summary: a row per system and metric."""

    every: pd.DataFrame
    summary: pd.DataFrame

    @property
    def scored(self) -> int:
        """Number of values that were obtained."""
        return int(self.summary["scored"].sum())


@dataclass(frozen=True)
class TargetStudy:
    """A study whose table gets the rows."""

    name: str
    store: str


def systems_of(
    folders: Sequence[Path], codecs: Sequence[str], names: list[str] | None, bitrates: list[float] | None
) -> list[System]:
    """The systems to score. Raises EvaluationError, ReferenceCodecError."""
    if not folders and not codecs:
        raise EvaluationError("nothing to score: give a folder of decoded audio, or --codec")
    codec_kinds, created = _reference_codecs(codecs)
    default_names = [path.resolve().name for path in folders] + [codec.label for codec in created]
    chosen_names = _per_system("--name", names, default_names)
    if len(set(chosen_names)) < len(chosen_names):
        raise EvaluationError(
            f"two systems have the same name: {', '.join(chosen_names)}; give each its own with --name"
        )
    rates: list[float | None] = [*_per_system("--bitrate", bitrates, [None] * len(folders))]
    rates += [None for _ in created]
    sources: list[Path | Reference] = [*folders, *created]
    kinds = ["folder" for _ in folders] + codec_kinds
    return [
        System(name=name, kind=kind, source=source, bitrate=rate)
        for name, kind, source, rate in zip(chosen_names, kinds, sources, rates, strict=True)
    ]


def _reference_codecs(codecs: Sequence[str]) -> tuple[list[str], list[Reference]]:
    if not codecs:
        return [], []
    from codec import references  # imports torch

    kinds = [references.parse(text) for text in codecs]
    return [kind for kind, _ in kinds], [references.create(kind, options) for kind, options in kinds]


def target_study(study: str | None, tracking_uri: str | None) -> TargetStudy | None:
    """The study that gets the rows, if any. Raises ResultsError where the store has no such study."""
    if study is None:
        return None
    from analysis import load

    load(study, tracking_uri)
    return TargetStudy(study, store_uri(tracking_uri))


def score_systems(
    systems: Sequence[System],
    reference_dir: Path,
    metric_names: Sequence[str] | None,
    *,
    pairs: Path | None = None,
    study: TargetStudy | None = None,
    workers: int | None = None,
    reference_cache: Path | None = None,
    quiet: bool = False,
) -> Scores:
    """Score `systems` against the recordings in `reference_dir`. metric_names: default the core set.

    Metrics, folders and codecs are checked before the first is scored. Raises EvaluationError,
    MetricUnavailable, ReferenceCodecError.
    """
    names = tuple(metrics.core() if metric_names is None else metric_names)
    require(names)
    paired: list[Pairs | None] = []
    for system in systems:
        if isinstance(system.source, Path):
            paired.append(
                audio_pairs.match_folders(reference_dir, system.source)
                if pairs is None
                else audio_pairs.read_manifest(pairs, reference_dir, system.source)
            )
        else:
            paired.append(None)
            system.source.prepare()
    recordings = audio_pairs.recordings(reference_dir) if None in paired else {}
    console = messages(quiet)
    every, summaries = [], []
    with tempfile.TemporaryDirectory() as temporary:
        cache = reference_cache or Path(temporary)
        for system, files in zip(systems, paired, strict=True):
            rate = system.bitrate
            if files is None:
                assert not isinstance(system.source, Path)
                console.note((system.name, "bold"), ": encoding and decoding")
                decoded = Path(tempfile.mkdtemp(prefix="decoded-", dir=temporary))
                files, rate = reconstruct_files(system.source, recordings, decoded)
            frame = _score(console, system.name, files, names, worker_count(workers), cache)
            if study is not None:
                _add_to_study(study, system, rate, frame, reference_dir, files)
            labels = {"system": system.name, "bitrate": rate}
            every.append(frame.assign(**labels))
            summaries.append(aggregate(frame).assign(**labels, protocol=frame["protocol"].iloc[0]))
    return Scores(every=pd.concat(every, ignore_index=True), summary=pd.concat(summaries, ignore_index=True))


def show(scores: Scores, format: str = "console") -> None:
    """Print one system as a row per metric, with failures and worst utterances; several as a row per system.

    With the format `json`, print all of it as a document.
    """
    summary = scores.summary
    if format == "json":
        document.emit(evaluate_document(summary))
        return
    systems = summary["system"].unique()
    labels = {name: metrics.get(name).label for name in summary["metric"].unique()}
    console = output()
    reasons = []
    if len(systems) == 1:
        table = PlainTable("metric", "mean", "95 %", "median", "scored", "failed", "worst", texts=("worst",))
        for row in summary.to_dict("records"):
            table.add(
                labels[row["metric"]],
                _number(row["mean"]),
                f"{_number(row['low'])} to {_number(row['high'])}",
                _number(row["median"]),
                f"{row['scored']}/{row['asked']}",
                str(row["failed"]),
                ", ".join(row["worst"][:1]),
            )
    else:
        table = PlainTable("system", "kbit/s", *labels.values(), "failed")
        for system in systems:
            rows = summary[summary["system"] == system].to_dict("records")
            rate = rows[0]["bitrate"]
            table.add(
                str(system),
                "-" if pd.isna(rate) else f"{rate / 1000:g}",
                *(f"{_number(row['mean'])} ±{_number((row['high'] - row['low']) / 2)}" for row in rows),
                str(sum(row["failed"] for row in rows)),
            )
    for row in summary.to_dict("records"):
        if row["reasons"]:
            reasons.append(f"failed: {row['system']}, {row['metric']}: {row['reasons']}")
    console.table(table)
    for reason in reasons:
        console.say(reason)
    console.say(
        f"protocol {summary['protocol'].iloc[0]}; 95 % bootstrap interval of the mean over utterances"
    )


def write(scores: Scores, output_path: Path | None, summary_path: Path | None) -> None:
    """Write every score and the aggregates. Raises OutputError, after both were written somewhere."""
    aggregates = scores.summary.assign(worst=scores.summary["worst"].map("; ".join))
    problems = []
    for frame, path in ((scores.every, output_path), (aggregates, summary_path)):
        if path is None:
            continue
        problem = outputs.save(path, lambda place, frame=frame: _write_frame(frame, place))  # type: ignore[misc]
        problems += [problem] if problem else []
        if not problem:
            messages().say(f"wrote {path}")
    if problems:
        raise outputs.OutputError("\n".join(problems))


def _write_frame(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)


def _score(
    console: Console, system: str, pairs: Pairs, names: Sequence[str], workers: int, cache: Path
) -> pd.DataFrame:
    rates = ", ".join(f"{len(group)} at {rate} Hz" for rate, group in by_sample_rate(pairs).items())
    console.note((system, "bold"), f": {len(pairs.references)} utterances ({rates})")
    for what, extra in (
        ("no reconstruction (counted as failed) of", pairs.only_references),
        ("left out, no reference for", pairs.only_reconstructions),
        ("not read:", pairs.left_out),
    ):
        if extra:
            shown = ", ".join(extra[:_SHOWN]) + (", ..." if len(extra) > _SHOWN else "")
            console.say(f"  {what} {len(extra)}: {shown}")
    columns = (TextColumn("  scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=console.muted) as bar:
        task = bar.add_task("scoring", total=len(pairs.references))
        return score_pairs(
            pairs,
            names,
            workers=workers,
            progress=lambda done, _: bar.update(task, completed=done),
            reference_cache=cache,
        )


def _add_to_study(
    study: TargetStudy, system: System, rate: float | None, frame: pd.DataFrame, folder: Path, pairs: Pairs
) -> None:
    from experiments.execution import added_rows

    added_rows.add(
        study.name,
        study.store,
        label=system.name,
        codec=system.kind,
        scores=frame,
        bitrate=rate,
        corpus=folder.resolve().name,
        corpus_hash=added_rows.digest_of(pairs.references),
    )


def _per_system(option: str, given: Sequence[Item] | None, default: Sequence[Item]) -> Sequence[Item]:
    if not given:
        return default
    if len(given) != len(default):
        raise EvaluationError(
            f"{option} is given {len(given)} times for {len(default)} folders; give one for each"
        )
    return given


def _number(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3f}"
