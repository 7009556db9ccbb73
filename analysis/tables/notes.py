"""Captions and notes of a comparison table: how the numbers were measured, and limits of single rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any

import pandas as pd

from analysis.results.columns import Column
from analysis.results.placing import RATE_WEIGHT
from analysis.results.study_results import Results, records

_TERMS = {  # by what a column shows
    "usage/": "Codebook use: each factor's codes on the test set, averaged over factors (a pair, a channel, "
    "a stage).",
    "cost/real_time_factor": "RTF: seconds of computing per second of audio.",
}

BOLD, STAR = "Bold:", "*:"  # how captions begin the explanation of the best

_STEPS, _WARM_STEPS = "param/train.steps", "param/train.warm_start.steps"
_TUNED = "param/quantizer.tuned"
_WEIGHTS = ("param/weights.name", "param/weights.licence", "param/weights.source")  # of others
_NOTHING = ("", "0", "None", "null")  # values of a parameter that is not given
_TRAINED_ON = ("param/data.corpus", "param/data.content_hash")
_SCORED_ON = "param/data.test.content_hash"
_CHECKPOINT = "param/train.warm_start.checkpoint"
PARAMETERS = (
    _TUNED,
    _STEPS,
    _WARM_STEPS,
    *_WEIGHTS,
    _CHECKPOINT,
    *_TRAINED_ON,
    _SCORED_ON,
    RATE_WEIGHT,
)  # of runs, that captions tell of


def caption(
    results: Results,
    runs: pd.DataFrame,
    conditions: dict[str, str],
    intervals: str,
    columns: Sequence[Column],
    shown: Collection[str],
) -> list[str]:
    """Lines that say where the numbers of the main sections, those of `runs`, come from and how to read them.

    conditions: corpus_hash and protocol that all of `runs` share. intervals: one of `comparison.INTERVALS`.
    shown: what there is to be explained, of `interval`, `best`, `worse`, `tied`.
    """
    if runs.empty:
        return [f"Study {results.study}: no run has finished."]
    first = runs.iloc[0]
    kind = "synthetic speech" if first["synthetic"] else "recorded audio"
    seeds = sorted(set(runs["seed"]))
    listed = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds ({', '.join(map(str, seeds))})"
    lines = [
        f"Study {results.study}; evaluation protocol {conditions['protocol'] or 'unknown'}; "
        f"corpus {first['corpus']} ({kind}, hash {str(conditions['corpus_hash'])[:12] or 'unknown'}); "
        f"{utterances(runs)} test utterances; {listed}."
    ]
    sign = "[ ]" if intervals == "range" else "±"
    half = "" if intervals == "range" else "half of the "
    if len(seeds) == 1:
        over = f"{sign} {half}95 % interval over utterances; with" if "interval" in shown else "With"
        lines.append(
            f"{over} one seed, differences between trainings are not covered and nothing is marked as best."
        )
    else:
        over = f", {sign} {half}95 % interval over seeds and utterances" if "interval" in shown else ""
        worse = "; †: significantly worse" if "worse" in shown else ""
        unmarked = "; unmarked: no difference to the best was shown" if "tied" in shown else ""
        how = "paired over seeds and utterances, Holm-corrected, 5 %"
        best = f" {BOLD} best at its rate{worse}{unmarked} ({how})."
        lines.append(f"Means of seeds{over}.{best if 'best' in shown else ''}")
    terms = [text for part, text in _TERMS.items() if any(one.source.startswith(part) for one in columns)]
    lines += [" ".join(terms)] if terms else []
    lines += _training_corpus(runs)
    lines += _tuned(runs)
    lines += _released_weights(runs)
    lines += _checkpoints(runs)
    lines += _warm_start(runs)
    return lines


def utterances(runs: pd.DataFrame) -> str:
    names = [name for name in map(str, runs.columns) if name.startswith("eval/") and name.endswith("_asked")]
    counts = sorted({int(value) for name in names for value in runs[name].dropna()})
    return " or ".join(map(str, counts)) if counts else "unknown number of"


def _training_corpus(runs: pd.DataFrame) -> list[str]:
    """Name the corpora that rows were trained on, where they are scored on another."""
    if _SCORED_ON not in runs:
        return []
    elsewhere = runs[runs[_SCORED_ON].notna() & (runs[_SCORED_ON] != "")]
    named = elsewhere.reindex(columns=[*_TRAINED_ON, "label"]).fillna("unknown").drop_duplicates()
    lines = []
    for about, rows in named.groupby(list(_TRAINED_ON), sort=False):
        corpus, content_hash = map(str, about)
        whose = "" if len(elsewhere) == len(runs) else f" ({', '.join(rows['label'])})"
        trained_on = f"{corpus} (hash {content_hash[:12]})"
        lines.append(f"Trained on {trained_on}, scored on the test split of the corpus above{whose}.")
    return lines


def _tuned(runs: pd.DataFrame) -> list[str]:
    """Name the rows whose options were chosen by trials; the others have their defaults."""
    if _TUNED not in runs:
        return []
    rows = runs[runs[_TUNED].notna() & (runs[_TUNED] != "")].drop_duplicates("label")
    told = [f"{row['label']} ({row[_TUNED]})" for row in records(rows)]
    return [f"Tuned rows, while the others have default options: {'; '.join(told)}."] if told else []


def _released_weights(runs: pd.DataFrame) -> list[str]:
    """Source and licence of the weights that the systems begin from."""
    if _WEIGHTS[0] not in runs:
        return []
    named = runs[list(_WEIGHTS)].dropna().drop_duplicates()
    return [
        f"Encoder and decoder begin as released: {name} ({licence}, {source})."
        for name, licence, source in named.itertuples(index=False)
    ]


def _checkpoints(runs: pd.DataFrame) -> list[str]:
    """Names of the checkpoint files that the systems begin from, and where their licence is to be looked for:
    the files do not hold it."""
    named = runs[_CHECKPOINT].dropna() if _CHECKPOINT in runs else ()
    names = dict.fromkeys(PureWindowsPath(value).name for value in map(str, named) if value not in _NOTHING)
    return [
        f"Encoder and decoder begin from the checkpoint {name}, which states no licence; check its source."
        for name in names
    ]


def _warm_start(runs: pd.DataFrame) -> list[str]:
    if _WARM_STEPS not in runs:
        return []
    warm = sorted({value for value in runs[_WARM_STEPS].dropna() if value not in _NOTHING})
    if not warm:
        return []
    own = sorted(set(runs[_STEPS].dropna())) if _STEPS in runs else []
    then = f", each then trained {' or '.join(own)} steps with its quantizer" if own else ""
    return [
        f"Warm start: all systems begin from one backbone trained unquantized for "
        f"{' or '.join(warm)} steps{then}."
    ]


def notes_on_lost_seeds(runs: pd.DataFrame, finished: set[str]) -> list[str]:
    """Notes on seeds without a result, of labels that have one."""
    notes = []
    affected = set(runs[runs["status"] != "finished"]["label"]) & finished
    for label in dict.fromkeys(runs["label"]):
        if label in affected:
            own = rows_of(runs, label)
            lost = own[own["status"] != "finished"]
            which = "; ".join(f"seed {row['seed']} {outcome(row)}" for row in records(lost))
            notes.append(f"{label}: {len(own) - len(lost)} of {len(own)} seeds finished ({which})")
    return notes


def notes_on_use(summaries: dict[str, pd.DataFrame], columns: Sequence[Column]) -> list[str]:
    """Notes on codebooks that are too large for the number of test tokens: the share of a uniform source."""
    if "used_fraction" not in {column.key for column in columns}:
        return []
    notes = []
    for label, runs in summaries.items():
        if "usage/uniform_used_fraction" in runs and float(runs["usage/uniform_used_fraction"].mean()) < 0.99:
            uniform = 100 * float(runs["usage/uniform_used_fraction"].mean())
            tokens = f"{runs['usage/tokens'].mean():,.0f} " if "usage/tokens" in runs else ""
            notes.append(
                f"{label}: with {tokens}test tokens even a uniform source would use only {uniform:.1f} %"
            )
    return notes


def notes_on_saturation(summaries: dict[str, pd.DataFrame]) -> list[str]:
    """Name the rows whose channels are pushed into the ends of their ranges."""
    told = {}
    for label, runs in summaries.items():
        if "usage/saturated_channels" in runs and (channels := runs["usage/saturated_channels"].mean()) > 0:
            told[label] = f"{label} ({channels:.1f} channels, {100 * runs['usage/saturation'].mean():.0f} %)"
    if not told:
        return []
    return [
        f"! saturated: {', '.join(told.values())}. In these channels, more values lie beyond the centres of"
        " the outermost cells than the whole outermost cells would hold if all cells were used equally. In"
        " brackets: the mean number of such channels, and the mean share of values over all channels. Start"
        " from data, or lower the learning rate, before you draw conclusions from these rows"
    ]


def notes_on_backends(results: Results, columns: Sequence[Column]) -> list[str]:
    """Notes on metrics that different versions of a backend scored, with the rows of each."""
    scores = pd.concat([results.utterances, results.reference_utterances], ignore_index=True)
    notes = []
    for column in columns:
        scored = scores[(scores["metric"] == column.source.removeprefix("eval/")) & (scores["backend"] != "")]
        if column.interval and scored["backend"].nunique() > 1:
            whose = _labels_by(scored, "backend")
            notes.append(
                f"! {column.header} was scored by different backends, so do not compare across them ({whose})"
            )
    return notes


def notes_on_imported(results: Results) -> list[str]:
    """A note on runs of the study that were imported from an archive."""
    known = [frame for frame in (results.runs, results.references) if len(frame)]
    whose = [frame[frame["run_id"].isin(results.from_archive)]["label"] for frame in known]
    labels = list(dict.fromkeys(label for each in whose for label in each))
    if not labels:
        return []
    return [f"! imported from an archive, and not trained or scored in this store: {', '.join(labels)}"]


def notes_on_precisions(runs: pd.DataFrame) -> list[str]:
    """A note on rows of different precision: `precision: auto` depends on the device, which no hash shows."""
    known = runs[runs["precision"] != ""]
    if known["precision"].nunique() < 2:
        return []
    return [
        "! trained in different precisions, so a difference between rows may be due to the precision "
        f"({_labels_by(known, 'precision')}); train.precision: fp32 is the same everywhere"
    ]


def notes_on_starting_weights(runs: pd.DataFrame) -> list[str]:
    """A note on rows that began from different weights of one warm start, which comparisons in pairs of seeds
    take for the same."""
    known = runs[(runs["starting_weights"] != "") & (runs["warm_start"] != "")]
    differing = [
        f"seed {own['seed'].iloc[0]}: {_labels_by(own, 'starting_weights')}"
        for _, own in known.groupby("warm_start", sort=False)  # its hash holds the seed
        if own["starting_weights"].nunique() > 1
    ]
    if not differing:
        return []
    return [
        "! one warm start gave different weights, as when it was trained on two machines, so a difference "
        f"between rows includes that of their warm starts ({'; '.join(differing)}). `codecbench run STUDY "
        "--only ROW --force` trains a row again, from the warm start in this store"
    ]


def _labels_by(frame: pd.DataFrame, column: str) -> str:
    """`value: labels that have it; ...`"""
    labels = frame.groupby(column, sort=True)["label"].agg(lambda names: ", ".join(dict.fromkeys(names)))
    return "; ".join(f"{value}: {names}" for value, names in labels.items())


def rows_of(frame: pd.DataFrame, label: str) -> pd.DataFrame:
    """The runs of a label, by seed."""
    return frame[frame["label"] == label].sort_values("seed", kind="stable")


def outcome(run: Mapping[str, Any]) -> str:
    """A run's status, and the reason where there is one."""
    status = run["status"] or "unknown"
    return f"{status}: {run['reason']}" if run["reason"] else status
