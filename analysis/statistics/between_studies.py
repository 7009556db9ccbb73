"""Compare two studies: paired differences of the rows that both have, on the same seeds and utterances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from analysis.results.columns import quality_column
from analysis.results.study_results import Results
from analysis.statistics.intervals import holm, paired_difference

COLUMNS = ["label", "metric", "first", "second", "difference", "low", "high", "p_value", "p_holm"]


@dataclass(frozen=True)
class Between:
    """Two studies compared.

    rows: the columns of `COLUMNS`, then seeds and utterances; `difference` is second less first, with its
    95 % interval; `p_holm` is corrected for all rows of a metric. left_out: by row, why it is not compared.
    """

    rows: pd.DataFrame
    left_out: dict[str, str]


def between(first: Results, second: Results) -> Between:
    """Compare the rows of two studies that have the same label.

    Scores are paired by utterance and seed, so the test audio and the protocol must be the same.
    """
    labels = list(dict.fromkeys([*first.runs["label"], *second.runs["label"]]))
    rows: list[tuple[object, ...]] = []
    left_out: dict[str, str] = {}
    for label in labels:
        if reason := _unlike(first, second, label):
            left_out[label] = reason
            continue
        compared = [*_compared(first, second, label)]
        rows += compared
        if not compared:
            left_out[label] = "no seed, metric and utterances that both have scored"
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "seeds", "utterances"])
    for _, group in frame.groupby("metric"):
        frame.loc[group.index, "p_holm"] = holm(group["p_value"].tolist())
    return Between(frame, left_out)


def _unlike(first: Results, second: Results, label: str) -> str:
    """Why a row of both studies cannot be compared; empty where it can."""
    sides = [results.finished[results.finished["label"] == label] for results in (first, second)]
    for results, side in zip((first, second), sides, strict=True):
        if side.empty:
            there = label in set(results.runs["label"])
            return f"{results.study} has no {'finished run of it' if there else 'such row'}"
    for name, words in (("corpus_hash", "other test audio"), ("protocol", "another evaluation protocol")):
        values = [set(side[name]) for side in sides]
        if values[0] != values[1] or len(values[0]) > 1:
            return words
    return ""


def _compared(first: Results, second: Results, label: str) -> Iterator[tuple[object, ...]]:
    """A row of the frame for each metric that both studies have scored a label by."""
    scores = [results.utterances[results.utterances["label"] == label] for results in (first, second)]
    metrics = [list(dict.fromkeys(side["metric"])) for side in scores]
    for metric in (name for name in metrics[0] if name in metrics[1]):
        tables = [
            side[side["metric"] == metric].pivot_table(
                index="seed", columns="utterance", values="value", aggfunc="mean", dropna=False
            )
            for side in scores
        ]
        seeds = tables[0].index.intersection(tables[1].index)
        names = tables[0].columns.intersection(tables[1].columns)
        one, other = (table.loc[seeds, names].to_numpy(dtype=float) for table in tables)
        try:
            better = quality_column(str(metric)).higher_is_better is not False
            pair = paired_difference(one, other, higher_is_better=better)
        except ValueError:  # fewer than two utterances
            continue
        both = ~(pd.isna(one).any(axis=0) | pd.isna(other).any(axis=0))
        means = (float(one[:, both].mean()), float(other[:, both].mean()))
        yield (
            *(label, str(metric), *means, pair.mean, pair.low, pair.high, pair.p_value, 1.0),
            *(pair.seeds, pair.utterances),
        )
