"""Compute the comparison table of a study. Rendering is in `formats.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from analysis.results.columns import SCORED, Column, quality_column, select
from analysis.results.placing import measured_labels, placing_rates, sentence
from analysis.results.study_metrics import asked_metrics, expanded_keys
from analysis.results.study_results import Results, records
from analysis.statistics.estimates import estimate
from analysis.statistics.leaders import leaders
from analysis.statistics.matched_rates import mismatch_allowed
from analysis.tables.notes import (
    PARAMETERS,
    caption,
    notes_on_backends,
    notes_on_imported,
    notes_on_lost_seeds,
    notes_on_precisions,
    notes_on_saturation,
    notes_on_starting_weights,
    notes_on_use,
    outcome,
    rows_of,
    utterances,
)
from analysis.tables.table import Cell, Row, Section, Table
from experiments.common.matched_rates import matched, rate_groups

INTERVALS = ("plus-minus", "range")


class TableError(ValueError):
    """A table can't be made as asked; the message says what to ask for."""


def comparison(
    results: Results,
    columns: Sequence[str] | None = None,
    *,
    bitrate: float | None = None,
    allow_rate_mismatch: bool = False,
    intervals: str = "plus-minus",
) -> Table:
    """Build the comparison table of a study, with systems compared at equal bitrates only.

    columns: keys of `columns.select`. None gives bitrate, the metrics of the study, and code use; `all` adds
        all rates and costs. Seeds of one label are averaged.
    bitrate: rate of the main section in bit/s; by default the rate that most systems share. Rows (placed by
        `results.placing`) that are
        more than 2 % off have sections of their own, unless the study allows unequal rates (the caption says
        so). Unquantized, failed and unfinished systems also have sections of their own.
    allow_rate_mismatch: put all rates into one section.
    intervals: 95 % intervals as `± half-width` (`plus-minus`) or as `[low, high]` (`range`).

    Raises:
        ColumnError: an unknown column.
        TableError: unknown `intervals`.
    """
    if intervals not in INTERVALS:
        raise TableError(f"unknown intervals {intervals!r}; known: {', '.join(INTERVALS)}")
    chosen = tuple(select(expanded_keys(results, columns)))
    allow_rate_mismatch |= mismatch_allowed(results)
    bitrate = bitrate or results.headline_bitrate
    runs = _shown(results.runs)
    finished = _shown(results.finished)
    conditions = _main_conditions(finished if len(finished) else runs)
    same = (runs[list(conditions)] == pd.Series(conditions)).all(axis=1)
    main = finished[same.loc[finished.index]]
    labels = list(dict.fromkeys(runs["label"]))
    summaries = {label: summary for label in labels if not (summary := rows_of(main, label)).empty}
    notes: list[str] = []
    rows = {label: _row(label, group, chosen, results, notes) for label, group in summaries.items()}
    rates = {label: float(placing_rates(group).mean()) for label, group in summaries.items()}

    sections = []
    ceiling = [label for label in rows if not rates[label] > 0]
    if ceiling:
        sections.append(Section("unquantized ceiling", tuple(rows[label] for label in ceiling)))
    coded = {label: rate for label, rate in rates.items() if rate > 0}
    for title, members, comparable in _by_rate(coded, bitrate, allow_rate_mismatch):
        sections.append(Section(title, tuple(rows[label] for label in members), comparable))
    elsewhere: dict[str, pd.DataFrame] = {}
    once = _of_one_place(finished)
    for where, group in _elsewhere(finished, conditions):
        of_label = {str(label): runs for label, runs in group.groupby("label", sort=False)}
        elsewhere |= {
            label if label in once else f"{label} {where}": runs for label, runs in of_label.items()
        }
        spent = {label: float(placing_rates(runs).mean()) for label, runs in of_label.items()}
        for title, members, comparable in _by_rate_or_none(spent, bitrate, allow_rate_mismatch):
            shown = tuple(_row(label, of_label[label], chosen, results, notes) for label in members)
            title = f"{where}, {title}; not comparable with other sections"
            sections.append(Section(title, shown, comparable and once.issuperset(members)))
    unfinished = [label for label in labels if label not in set(finished["label"])]
    if unfinished:
        sections.append(
            Section("no result", tuple(_message_row(runs, label, chosen) for label in unfinished))
        )
    sections = [_marked(section, chosen, results) for section in sections]
    sections += _references(results, conditions, chosen, notes)
    notes += notes_on_lost_seeds(runs, set(finished["label"]))
    notes += notes_on_use(elsewhere | summaries, chosen)
    notes += notes_on_saturation(elsewhere | summaries)
    notes += notes_on_backends(results, chosen)
    notes += notes_on_precisions(main)
    notes += notes_on_starting_weights(main)
    notes += notes_on_imported(results)
    return Table(
        title=f"{results.study}: quantizers compared",
        columns=chosen,
        sections=tuple(sections),
        caption=(
            *caption(results, main, conditions, intervals, chosen, _shown_of(sections)),
            *(_mismatch_caption(coded) if allow_rate_mismatch else ()),
            *filter(None, [sentence(measured_labels(main))]),
        ),
        notes=tuple(dict.fromkeys(notes)),
        intervals=intervals,
    )


def _references(
    results: Results, conditions: dict[str, str], columns: Sequence[Column], notes: list[str]
) -> list[Section]:
    """Codecs from outside, each at its own rate; those without a result last."""
    references = results.references
    if references.empty:
        return []
    done = _shown(results.finished_references)
    same = (done[list(conditions)] == pd.Series(conditions)).all(axis=1)
    sections = []
    for title, runs in (
        ("references: not trained here, each at its own rate", done[same]),
        ("references on other audio or by another protocol: not comparable", done[~same]),
    ):
        if len(runs):
            groups = runs.groupby("label", sort=False)
            rows = [_row(str(label), group, columns, results, notes) for label, group in groups]
            sections.append(Section(title, tuple(rows)))
    lost = [label for label in dict.fromkeys(references["label"]) if label not in set(done["label"])]
    if lost:
        rows = [_message_row(references, label, columns) for label in lost]
        sections.append(Section("references without a result", tuple(rows)))
    return sections


def _by_rate(
    rates: dict[str, float], bitrate: float | None, allow_mismatch: bool
) -> list[tuple[str, list[str], bool]]:
    """Title, labels, and whether they may be compared, of each section."""
    if not rates:
        return []
    if allow_mismatch and len(rate_groups(rates)) > 1:
        return [(f"bitrates differ, as allowed: {_span(rates)}", list(rates), True)]
    by_rate = matched(rates, bitrate)
    sections = []
    for group in by_rate.groups:
        centre = sum(rates[label] for label in group) / len(group) / 1e3
        sections.append((f"at {centre:.2f} kbit/s (within 2 %)", group, True))
    if by_rate.alone:
        off = ", ".join(f"{label} {100 * share:+.1f} %" for label, share in by_rate.alone.items())
        title = f"more than 2 % off {by_rate.main_rate / 1e3:.2f} kbit/s, not comparable ({off})"
        sections.append((title, list(by_rate.alone), False))
    return sections


def _by_rate_or_none(
    rates: dict[str, float], bitrate: float | None, allow_mismatch: bool
) -> list[tuple[str, list[str], bool]]:
    """`_by_rate` after a section of the rows that spend no bits."""
    free = [label for label, rate in rates.items() if not rate > 0]
    coded = {label: rate for label, rate in rates.items() if rate > 0}
    sections = [("unquantized", free, False)] if free else []
    return sections + _by_rate(coded, bitrate, allow_mismatch)


def _of_one_place(finished: pd.DataFrame) -> set[str]:
    """The labels whose runs were all scored on one corpus by one protocol; others cannot be told apart."""
    places = finished.groupby("label")[["corpus_hash", "protocol"]].nunique(dropna=False).max(axis=1)
    return set(places.index[places <= 1])


def _elsewhere(finished: pd.DataFrame, main: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs that were scored on each other corpus or by each other protocol than `main`, and where that
    was."""
    hashes = finished.groupby("corpus")["corpus_hash"].nunique()
    by_place = finished.groupby(["corpus_hash", "protocol"], sort=False, dropna=False)
    for (corpus_hash, protocol), group in by_place:
        name, places = str(group["corpus"].iloc[0]), []
        if corpus_hash != main["corpus_hash"]:
            of_many = f", hash {str(corpus_hash)[:12]}" if hashes.get(name, 1) > 1 else ""
            places.append(f"on {name or 'an unnamed corpus'} ({utterances(group)} utterances{of_many})")
        if protocol != main["protocol"]:
            places.append(f"by protocol {protocol or 'unknown'}")
        if places:
            yield " ".join(places), group


def _span(rates: Mapping[str, float]) -> str:
    return f"{min(rates.values()) / 1e3:.2f} to {max(rates.values()) / 1e3:.2f} kbit/s"


def _mismatch_caption(rates: dict[str, float]) -> list[str]:
    if len(rate_groups(rates)) < 2:
        return []
    return [
        f"Rows of different bitrates ({_span(rates)}) are compared with each other, since the study "
        "allows it (allow_rate_mismatch): a better score may be bought with bits alone."
    ]


def _marked(section: Section, columns: Sequence[Column], results: Results) -> Section:
    """Mark the best of each quality column, and the others beside it, in a section of equal rates."""
    labels = [row.label for row in section.rows]
    if not section.comparable or len(labels) < 2:
        return section

    rows = list(section.rows)
    for place, column in enumerate(columns):
        ahead = leaders(results, column.source.removeprefix("eval/"), labels) if column.interval else None
        if ahead is None:
            continue
        marks = {ahead.best: "best"} | dict.fromkeys(ahead.tied, "tied") | dict.fromkeys(ahead.worse, "worse")
        for number, row in enumerate(rows):
            cells = list(row.cells)
            cells[place] = replace(cells[place], mark=marks.get(row.label, ""))
            rows[number] = replace(row, cells=tuple(cells))
    return replace(section, rows=tuple(rows))


def _shown(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` without the hundreds of parameters that no table shows: each choice of rows would copy them."""
    return runs[[name for name in runs if not str(name).startswith("param/") or name in PARAMETERS]]


def _shown_of(sections: Sequence[Section]) -> set[str]:
    """Which of `interval`, `best`, `worse` and `tied` the cells of a table show."""
    cells = [cell for section in sections for row in section.rows for cell in row.cells]
    return {cell.mark for cell in cells if cell.mark} | {"interval" for cell in cells if cell.low is not None}


def _main_conditions(runs: pd.DataFrame) -> dict[str, str]:
    pairs = runs[["corpus_hash", "protocol"]].value_counts(sort=False).sort_index()
    corpus_hash, protocol = pairs.index[int(pairs.to_numpy().argmax())]
    return {"corpus_hash": corpus_hash, "protocol": protocol}


def _row(
    label: str, runs: pd.DataFrame, columns: Sequence[Column], results: Results, notes: list[str]
) -> Row:
    coded = float(runs["rate/bitrate"].mean()) > 0 if "rate/bitrate" in runs else True
    scored = _scored_cell(label, runs, columns, results, notes)  # notes tell of failures in any case
    cells = []
    for column in columns:
        if column is SCORED:
            cells.append(scored)
        elif (column.needs_codes and not coded) or column.source not in runs:
            cells.append(Cell())
        else:
            cells.append(_value_cell(runs, column, results))
    return Row(label, tuple(cells))


def _value_cell(runs: pd.DataFrame, column: Column, results: Results) -> Cell:
    value = estimate(results, runs, column.source)
    if not math.isfinite(value.mean):
        return Cell()
    low, high = (end * column.scale if math.isfinite(end) else None for end in (value.low, value.high))
    return Cell(value.mean * column.scale, low, high)


def _scored_cell(
    label: str, runs: pd.DataFrame, columns: Sequence[Column], results: Results, notes: list[str]
) -> Cell:
    """The worst metric's count, over all seeds, of the metrics that are shown and those that the study asks
    for; each metric with failures gets a note."""
    worst: tuple[int, int] | None = None
    shown = [column for column in columns if column.interval]
    asked_for = [quality_column(metric) for metric in asked_metrics(results)]
    for column in {column.source: column for column in (*shown, *asked_for)}.values():
        counts = [f"{column.source}_{name}" for name in ("asked", "scored")]
        if not set(counts) <= set(runs.columns):
            continue
        number, scored = (int(count) for count in runs[counts].dropna().sum())
        if worst is None or scored / max(number, 1) < worst[0] / max(worst[1], 1):
            worst = (scored, number)
        if scored < number:
            reasons = pd.concat([results.utterances, results.reference_utterances])
            failed = reasons[
                reasons["run_id"].isin(runs["run_id"])
                & (reasons["metric"] == column.source.removeprefix("eval/"))
                & (reasons["status"] != "ok")
            ]
            counted = failed["status"].value_counts(sort=True).items()
            why = "; ".join(f"{count} x {reason}" for reason, count in counted) or "reasons not logged"
            notes.append(f"{label}: {column.header} failed on {number - scored} of {number} ({why})")
    return Cell(text=f"{worst[0]}/{worst[1]}") if worst else Cell()


def _message_row(runs: pd.DataFrame, label: str, columns: Sequence[Column]) -> Row:
    own = rows_of(runs, label)
    parts = [outcome(row) for row in records(own)]
    return Row(label, tuple(Cell() for _ in columns), message="; ".join(dict.fromkeys(parts)))
