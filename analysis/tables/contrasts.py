"""Table of the contrasts of a study, a section per effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.results.columns import SCORED, Column, select
from analysis.results.study_metrics import quality_keys
from analysis.results.study_results import Results, records
from analysis.statistics.contrasts import LATER, EffectError, contrasts_of, contrasts_of_studies
from analysis.tables.comparison import INTERVALS, TableError
from analysis.tables.table import Cell, Row, Section, Table

if TYPE_CHECKING:
    import pandas as pd

NAME = "contrasts"
MOST_LETTERS = 72  # of a line


def contrast_table(
    studies: Sequence[Results],
    columns: Sequence[str] | None = None,
    *,
    intervals: str = "plus-minus",
    bitrate: float | None = None,
    effects: Sequence[str] | None = None,
) -> Table:
    """Put the contrasts of studies in a table: the differences by each metric, with 95 % intervals.

    `columns` are keys of metrics; None: those that the studies ask for. Those whose direction is not known
    are left out. bitrate, effects: as for `statistics.contrasts.contrasts_of_studies`. A
    value is bold where its interval leaves 0 out. It has three decimals where the comparison has two.

    Raises:
        ColumnError: an unknown column.
        TableError: unknown `intervals` or `effects`; a column that is no metric of quality; a study without
            contrasts, or none of whose pairs of rows has finished.
    """
    if intervals not in INTERVALS:
        raise TableError(f"unknown intervals {intervals!r}; known: {', '.join(INTERVALS)}")
    for results in studies:
        if not contrasts_of(results):
            raise TableError(
                f"study {results.study} has no contrasts; add them under `contrasts` in its file and start "
                "`codecbench run` again; finished runs are not trained again"
            )
    chosen = _columns(studies, columns)
    names = ", ".join(results.study for results in studies)
    try:
        frame = contrasts_of_studies(studies, metrics_of(studies, columns), bitrate, effects)
    except EffectError as error:
        raise TableError(str(error)) from None
    at = "" if bitrate is None else f" at {bitrate:g} bit/s"
    if frame.empty and not effects:
        raise TableError(f"{names}: no pair of rows of the contrasts has finished{at} yet")
    if lacking := [effect for effect in effects or () if effect not in set(frame["effect"])]:
        raise TableError(f"{names}: no pair of rows of the effect {lacking[0]!r} has finished{at} yet")
    cells = {
        (row["effect"], row["contrast"], row["of"], row["less"], row["metric"]): Cell(
            row["difference"], row["low"], row["high"], mark="best" if _leaves_0_out(row) else ""
        )
        for row in records(frame)
    }
    several = frame.groupby(["effect", "contrast"], sort=False)[["of", "less"]].nunique().max(axis=1)
    sections = []
    for effect, group in frame.groupby("effect", sort=False):
        rows = []
        for row in records(group.drop_duplicates(["contrast", "of", "less"])):
            key = (row["effect"], row["contrast"], row["of"], row["less"])
            at = f", {row['bitrate'] / 1e3:.2f} kbit/s" if several[row["effect"], row["contrast"]] > 1 else ""
            values = (cells.get((*key, column.source.removeprefix("eval/")), Cell()) for column in chosen)
            rows.append(Row(f"{_shortened(row['contrast'])}{at}", tuple(values)))
        sections.append(Section(str(effect), tuple(rows)))
    return Table(
        title=f"{names}: contrasts",
        columns=chosen,
        sections=tuple(sections),
        caption=(_caption(frame, intervals),),
        intervals=intervals,
        name=NAME,
        head="difference",
    )


def metrics_of(studies: Sequence[Results], columns: Sequence[str] | None = None) -> list[str]:
    """The metrics of `contrast_table`. Raises as it does."""
    return [column.source.removeprefix("eval/") for column in _columns(studies, columns)]


def _columns(studies: Sequence[Results], keys: Sequence[str] | None) -> tuple[Column, ...]:
    asked = keys or dict.fromkeys(key for results in studies for key in quality_keys(results))
    chosen = [column for column in select(asked) if column.key != SCORED.key]
    if wrong := [column.key for column in chosen if not column.source.startswith("eval/")]:
        raise TableError(f"contrasts compare scores, and {wrong[0]} is not one; remove it from --columns")
    return tuple(
        replace(column, digits=column.digits + (column.digits < 3))
        for column in chosen
        if column.higher_is_better is not None
    )


def _shortened(line: str) -> str:
    """A line as it leaves room for its values."""
    half = MOST_LETTERS // 2
    return line if len(line) <= MOST_LETTERS else f"{line[:half]}…{line[1 - half :]}"


def _leaves_0_out(row: dict[str, float]) -> bool:
    return row["seeds"] > 1 and (row["low"] > 0 or row["high"] < 0)


def _caption(frame: pd.DataFrame, intervals: str) -> str:
    fewest, most = int(frame["seeds"].min()), int(frame["seeds"].max())
    sign = "[ ]" if intervals == "range" else "±: half of the"
    if frame["planned"].all():
        added = "Each contrast was planned."
    elif frame["planned"].any():
        added = f"Each contrast was planned, or added after runs had begun where it says{LATER}."
    else:
        added = "Each contrast was added after runs had begun."
    if most == 1:
        return (
            f"{sign} 95 % interval over utterances. With one seed, differences between trainings are not "
            f"covered and nothing is marked. {'' if frame['planned'].all() else added}".rstrip()
        )
    seeds = str(most) if fewest == most else f"{fewest} to {most}"
    return (
        f"Paired over {seeds} seeds and all utterances; {sign} 95 % interval. Bold: the interval excludes 0. "
        f"{added[:-1]}; its interval is not corrected for the number of contrasts."
    )
