"""Print paired differences between two studies."""

from __future__ import annotations

import pandas as pd

from analysis import load
from analysis.results.columns import quality_column
from analysis.statistics.between_studies import Between, between
from experiments.commands.display.terminal import PlainTable, output
from experiments.commands.documents import document
from experiments.commands.documents.runs import CompareDocument, ComparedRow
from experiments.commands.outputs import OutputError

LEVEL = 0.05


def compare(first: str, second: str, uri: str, format: str) -> None:
    """Compare two studies of a store. Raises ResultsError, TrackingError, OutputError."""
    if first == second:
        raise OutputError(f"{first} is given twice; give two studies")
    compared = between(load(first, uri), load(second, uri))
    if format == "json":
        rows = [ComparedRow.model_validate(row) for row in compared.rows.to_dict("records")]
        document.emit(CompareDocument(first=first, second=second, rows=rows, left_out=compared.left_out))
        return
    _print(first, second, compared)


def _print(first: str, second: str, compared: Between) -> None:
    console = output()
    columns = ("row", "metric", first, second, "difference", "95 % interval", "p (Holm)", "seeds", "utt.")
    table = PlainTable(*columns, texts=("metric",), keys=2)
    for row in compared.rows.to_dict("records"):
        column = quality_column(row["metric"])
        digits = column.digits + 1
        significant = row["p_holm"] <= LEVEL and row["seeds"] > 1
        table.add(
            *(row["label"], column.name),
            *(f"{row['first']:.{digits}f}", f"{row['second']:.{digits}f}"),
            (f"{row['difference']:+.{digits}f}{' *' if significant else ''}", "bold" if significant else ""),
            "—" if pd.isna(row["low"]) else f"{row['low']:+.{digits}f} to {row['high']:+.{digits}f}",
            *(f"{row['p_holm']:.3g}", str(row["seeds"]), str(row["utterances"])),
        )
    if len(compared.rows):
        console.table(table)
        console.say(
            f"Difference: {second} minus {first}, paired by seed and utterance. *: significant at 5 % (Holm, "
            "over the rows of a metric). With one seed there are no marks: the variance between trainings is "
            "unknown."
        )
    for label, reason in compared.left_out.items():
        console.say((f"not compared: {label}", "yellow"), f": {reason}")
