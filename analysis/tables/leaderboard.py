"""Compute a leaderboard: rows of many studies in bands of bitrate, compared only where they may be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pandas as pd

from analysis.results.columns import quality_column
from analysis.results.merged import merged
from analysis.results.study_metrics import logged_metrics
from analysis.results.study_results import Results
from analysis.statistics.best import best_first
from analysis.statistics.estimates import estimate
from analysis.statistics.leaders import leaders
from analysis.tables.published import Published
from analysis.tables.table import Cell
from experiments.common.matched_rates import rate_groups

EDGES = (0.5, 1.0, 2.0, 4.0, 8.0)  # kbit/s, of the bands
RECALLED = "M"  # confidence of published numbers that nobody has checked: they are left out

# What two trainings must share for their rows to be compared, beside corpus, protocol and backbone.
_TRAINING = (
    *("steps", "batch_size", "crop_seconds", "objective.name"),
    *("warm_start.steps", "warm_start.weights", "warm_start.checkpoint"),
)


class LeaderboardError(ValueError):
    """A leaderboard cannot be made as asked; the message says what to give."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A row: seeds of one label are averaged. bitrate: nominal bit/s, NaN without a quantizer. start: how the
    quantizer started. cells: scores by metric."""

    label: str
    studies: tuple[str, ...]
    quantizer: str
    start: str
    bitrate: float
    seeds: int
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Level:
    """Rows of one bitrate (bit/s, within 2 %). comparable: whether they may be compared with each other."""

    bitrate: float
    rows: tuple[Standing, ...]
    comparable: bool


@dataclass(frozen=True, kw_only=True)
class Board:
    """Rows of one corpus, evaluation protocol, backbone and budget of training, by bitrate."""

    corpus: str
    corpus_hash: str
    synthetic: bool
    protocol: str
    backbone: str
    training: str
    metrics: tuple[str, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Band:
    """A band of bitrates, from `low` to below `high` kbit/s; NaN: no bitrate. boards: measured here.
    published: rows of papers, a frame for each table by its name, never compared with anything."""

    low: float
    high: float
    boards: tuple[Board, ...] = ()
    published: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """`1 to 2 kbit/s`."""
        if math.isnan(self.low):
            return "No bitrate"
        if self.low == 0:
            return f"Below {self.high:g} kbit/s"
        return (
            f"{self.low:g} kbit/s and more"
            if math.isinf(self.high)
            else f"{self.low:g} to {self.high:g} kbit/s"
        )


@dataclass(frozen=True)
class Leaderboard:
    """Bands that have rows, by rising bitrate. papers: the published tables. left_out: recalled numbers."""

    studies: tuple[str, ...]
    bands: tuple[Band, ...]
    papers: tuple[Published, ...] = ()
    left_out: int = 0


def leaderboard(
    studies: Sequence[Results], papers: Sequence[Published] = (), edges: Sequence[float] = EDGES
) -> Leaderboard:
    """The leaderboard of `studies`, which are of one store, and of published tables.

    edges: of the bands, rising, kbit/s. Rows are compared, and the best is marked, only where corpus,
    protocol, backbone, budget of training and bitrate (within 2 %) are the same. Raises LeaderboardError,
    ResultsError.
    """
    if not edges or any(not 0 < low < high for low, high in pairwise([*edges, math.inf])):
        raise LeaderboardError("give edges of the bands as rising numbers of kbit/s, such as 0.5,1,2,4,8")
    results = merged(studies)
    metrics = logged_metrics(results)
    by_band: dict[tuple[float, float], list[Board]] = {}
    for about, labels, runs in _boards(results):
        for band, levels in _by_band(results, runs, labels, metrics, edges).items():
            shown = tuple(m for m in metrics if any(m in row.cells for one in levels for row in one.rows))
            by_band.setdefault(band, []).append(_board(about, shown, levels))
    cells = {paper.name: paper.cells[paper.cells["confidence"] != RECALLED] for paper in papers}
    lost = sum(len(paper.cells) - len(cells[paper.name]) for paper in papers)
    published: dict[tuple[float, float], dict[str, pd.DataFrame]] = {}
    for name, frame in cells.items():
        bands = [_band(rate * 1000, edges) for rate in frame["bitrate_kbps"]]
        for band in dict.fromkeys(bands):
            published.setdefault(band, {})[name] = frame[[one == band for one in bands]]
    order = [*pairwise([0.0, *edges, math.inf]), _NOWHERE]
    made = [
        Band(*band, tuple(by_band.get(band, ())), published.get(band, {}))
        for band in order
        if band in by_band or band in published
    ]
    return Leaderboard(tuple(one.study for one in studies), tuple(made), tuple(papers), lost)


_NOWHERE = (math.nan, math.nan)


def _band(bitrate: float, edges: Sequence[float]) -> tuple[float, float]:
    """The band of a bitrate in bit/s."""
    if not bitrate > 0:
        return _NOWHERE
    return next((low, high) for low, high in pairwise([0.0, *edges, math.inf]) if bitrate / 1000 < high)


def _boards(results: Results) -> list[tuple[dict[str, str], list[str], pd.DataFrame]]:
    """For each group of rows that were made alike: what they share, their labels, and their runs. References
    come last; each has a bitrate of its own and no training."""
    made: dict[tuple[str, ...], tuple[dict[str, str], list[str], pd.DataFrame]] = {}
    for frame in (results.finished, results.finished_references):
        for label, runs in frame.groupby("label", sort=False):
            first = {str(key): value for key, value in runs.iloc[0].items()}
            about = _about(first)
            key = tuple(about.values())
            made.setdefault(key, (about, [], frame))[1].append(str(label))
    return list(made.values())


def _about(run: Mapping[str, object]) -> dict[str, str]:
    """What a run shares with those that it may be compared with."""
    texts = {key: _text(run.get(key)) for key in ("corpus", "corpus_hash", "synthetic", "protocol")}
    if run.get("reference"):
        return {**texts, "backbone": "", "sizes": "", "training": ""}
    beginning = "param/backbone."
    sizes = {
        key.removeprefix(beginning): _text(value)
        for key, value in sorted(run.items())
        if key.startswith(beginning) and key != f"{beginning}name"
    }
    given = {key: _text(run.get(f"param/train.{key}")) for key in _TRAINING}
    return {
        **texts,
        "backbone": _text(run.get("param/backbone.name")) or "backbone not logged",
        "sizes": ", ".join(f"{key} {value}" for key, value in sizes.items() if value),
        "training": _budget(given) + _elsewhere(run),
    }


def _elsewhere(run: Mapping[str, object]) -> str:
    """The corpus that a run was trained on, where it is scored on another."""
    if not _text(run.get("param/data.test.content_hash")):
        return ""
    content_hash = _text(run.get("param/data.content_hash"))
    return f" on {_text(run.get('param/data.corpus'))} ({content_hash[:12]})"


def _budget(given: Mapping[str, str]) -> str:
    """The budget of a training in words."""
    parts = [f"{given['steps']} steps" if given["steps"] else "steps not logged"]
    if given["batch_size"] and given["crop_seconds"]:
        parts.append(f"of {given['batch_size']} x {given['crop_seconds']} s")
    if given["objective.name"]:
        parts.append(f"by the objective {given['objective.name']}")
    starts = {"steps": "after {} steps without a quantizer", "weights": "from {}", "checkpoint": "from {}"}
    parts += [
        text.format(given[f"warm_start.{key}"]) for key, text in starts.items() if given[f"warm_start.{key}"]
    ]
    return " ".join(parts)


def _text(value: object) -> str:
    """A logged text; empty for what is missing or null."""
    if value is None or value != value or value in ("null", "None"):
        return ""
    return str(value)


def _by_band(
    results: Results,
    runs: pd.DataFrame,
    labels: Sequence[str],
    metrics: Sequence[str],
    edges: Sequence[float],
) -> dict[tuple[float, float], list[Level]]:
    """Levels of bitrate of some rows, by band. A level belongs to the band of its mean rate."""
    groups = {label: runs[runs["label"] == label] for label in labels}
    rates = {label: float(group["rate/bitrate"].mean()) for label, group in groups.items()}
    alone = bool(runs["reference"].iloc[0])
    coded = {label: rate for label, rate in rates.items() if rate > 0}
    levels: dict[tuple[float, float], list[Level]] = {}
    without = [label for label in labels if label not in coded]
    for members in [*rate_groups(coded), *([without] if without else [])]:
        rate = sum(coded.get(label, math.nan) for label in members) / len(members)
        comparable = not alone and len(members) > 1 and members is not without
        rows = _standings(results, groups, members, metrics, comparable)
        levels.setdefault(_band(rate, edges), []).append(Level(rate, rows, comparable))
    return {band: sorted(some, key=lambda one: one.bitrate) for band, some in levels.items()}


def _standings(
    results: Results,
    groups: Mapping[str, pd.DataFrame],
    members: Sequence[str],
    metrics: Sequence[str],
    comparable: bool,
) -> tuple[Standing, ...]:
    cells: dict[str, dict[str, Cell]] = {label: {} for label in members}
    for metric in metrics:
        source = f"eval/{metric}"
        marks: dict[str, str] = {}
        several = [
            label for label in members if len(groups[label]) > 1 and groups[label].get(source) is not None
        ]
        if comparable and len(several) > 1 and (ahead := leaders(results, metric, several)) is not None:
            marks = (
                {ahead.best: "best"} | dict.fromkeys(ahead.tied, "tied") | dict.fromkeys(ahead.worse, "worse")
            )
        for label in members:
            if source not in groups[label]:
                continue
            value = estimate(results, groups[label], source)
            if math.isfinite(value.mean):
                low, high = (end if math.isfinite(end) else None for end in (value.low, value.high))
                cells[label][metric] = Cell(value.mean, low, high, mark=marks.get(label, ""))
    rows = []
    for label in members:
        runs = groups[label]
        first = runs.iloc[0].to_dict()
        rows.append(
            Standing(
                label=str(first["short"]),
                studies=tuple(first["studies"]),
                quantizer=str(first["quantizer"]),
                start=_text(first.get("param/train.start")) or ("" if first.get("reference") else "random"),
                bitrate=float(runs["rate/bitrate"].mean()),
                seeds=len(runs),
                cells=cells[label],
            )
        )
    return _ranked(rows, metrics)


def _ranked(rows: Sequence[Standing], metrics: Sequence[str]) -> tuple[Standing, ...]:
    """`rows` by their mean of the first metric that ranks them, the best first; others as they were, last."""
    for metric in metrics:
        means = {place: row.cells[metric].value for place, row in enumerate(rows) if metric in row.cells}
        known = {place: mean for place, mean in means.items() if mean is not None}
        if order := best_first(known, quality_column(metric).higher_is_better):
            rest = [place for place in range(len(rows)) if place not in known]
            return tuple(rows[place] for place in [*order, *rest])
    return tuple(rows)


def _board(about: Mapping[str, str], metrics: tuple[str, ...], levels: Sequence[Level]) -> Board:
    sizes = f" ({about['sizes']})" if about["sizes"] else ""
    return Board(
        corpus=about["corpus"],
        corpus_hash=about["corpus_hash"],
        synthetic=about["synthetic"] == "True",
        protocol=about["protocol"],
        backbone=f"{about['backbone']}{sizes}",
        training=about["training"],
        metrics=metrics,
        levels=tuple(levels),
    )
