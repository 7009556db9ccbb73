"""The answer of a study in sentences, from its statistics."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.comparisons import leaders
from analysis.estimates import estimate, logged_metrics, quality_column
from analysis.renderers import number
from analysis.results import Results


def answer(results: Results, labels: Sequence[str]) -> list[str]:
    """Sentences on `labels`, quantizers of one bitrate: who leads by each metric, and is it real."""
    finished = results.finished
    if len(labels) < 2:
        return ["Fewer than two quantizers finished at one bitrate: there is nothing to compare yet."]
    mine = finished[finished["label"].isin(list(labels))]
    seeds = int(mine.groupby("label").size().min())
    rate = mine["rate/bitrate"].mean() / 1e3
    first = mine.iloc[0]
    speech = "synthetic speech" if first["synthetic"] else "recorded audio"
    opening = f"At {rate:.2f} kbit/s on {first['corpus']} ({speech})"
    sentences = []
    for metric in logged_metrics(results):
        column = quality_column(metric)
        means = {
            label: estimate(results, mine[mine["label"] == label], f"eval/{metric}").mean for label in labels
        }
        known = {label: mean for label, mean in means.items() if mean == mean}
        if not known:
            continue
        found = leaders(results, metric, labels)
        choose = min if column.higher_is_better is False else max
        best = found[0] if found else choose(known, key=known.__getitem__)
        value = f"{column.header} {number(known[best], column.digits)}"
        if found is None:
            sentences.append(f"{best} has the best mean {value}.")
        elif found[1]:
            tied = ", ".join(label for label in labels if label in found[1])
            sentences.append(f"{best} has the best {value}, but can't be told from {tied}.")
        else:
            sentences.append(f"{best} has the best {value}, distinguishable from all others.")
    if seeds < 2:
        sentences.append(
            "Each system was trained once, so this study can't say whether another training would rank them "
            "the same."
        )
    if sentences:
        sentences[0] = f"{opening}, {sentences[0]}"
    return sentences
