"""Contrasts of a study: the differences that it was made for, each with its own interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from analysis.results.columns import quality_column
from analysis.results.placing import rates_by
from analysis.results.study_metrics import logged_metrics
from analysis.results.study_results import records
from analysis.statistics.comparisons import scores_of
from analysis.statistics.intervals import paired_difference
from analysis.statistics.shape_gains import quality_per_bit, shape_bits
from experiments.common.matched_rates import RATE_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.results.study_results import Results

COLUMNS = [
    *("effect", "contrast", "of", "less", "bitrate", "metric", "difference", "low", "high", "p_value"),
    *("by_shape", "seeds", "utterances", "planned"),
]
LATER = " (added later)"  # ends the line of a contrast that was added after runs had begun


class EffectError(ValueError):
    """An effect that no study has."""


class Contrast(NamedTuple):
    """A difference between two rows or series; see `experiments.studies.sections.Contrast`."""

    effect: str
    line: str
    of: str
    less: str
    planned: bool


def contrasts_of(results: Results) -> list[Contrast]:
    """The contrasts of the study, in the order of its file. Lines of unplanned ones end with `LATER`."""
    found = []
    for one in results.contrasts:
        effect, name, of, less = (str(one[key]) for key in ("effect", "name", "of", "less"))
        planned = one.get("planned", True) is True
        line = (name or f"{of} less {less}") + ("" if planned else LATER)
        found.append(Contrast(effect, line, of, less, planned))
    return found


def has_contrasts(results: Results) -> bool:
    """True if some contrast has two rows that finished and were scored."""
    return len(contrasts(results)) > 0


def contrasts(
    results: Results, metrics: Sequence[str] | None = None, bitrate: float | None = None
) -> pd.DataFrame:
    """Each contrast at each rate by each metric, in the columns of `COLUMNS`.

    bitrate: in bit/s; None: all rates, else those within 2 % of it.

    `difference` is the mean of `of` less that of `less`, paired over the seeds and utterances that both have;
    `low` and `high` are its own 95 % interval (see `intervals`), which is not corrected for the number of
    contrasts, since those that were `planned` were chosen before their runs. `bitrate` (bit/s) is
    that of `of`. Rows that have not finished are left out. Where the two rates are more than 2 % apart,
    `contrast` ends with them. `by_shape` is what the shape of the cells alone would make in theory
    (`shape_gains`), NaN where theory says nothing and for two rows of one quantizer. A pair of series has a
    contrast at each rate at which both have a row.
    """
    rows = []
    rates = rates_by(results.finished, "label")
    first_run = {run["label"]: run for run in records(results.finished.drop_duplicates("label"))}
    for contrast in contrasts_of(results):
        for of, less, rate in _pairs(results, contrast):
            if bitrate is not None and not abs(rate / bitrate - 1) <= RATE_TOLERANCE:
                continue
            same = first_run[of]["quantizer"] == first_run[less]["quantizer"]
            bits = np.nan if same else shape_bits(first_run[of], first_run[less])
            line = contrast.line + _rates_apart(float(rates[of]), float(rates[less]))
            for metric in metrics or logged_metrics(results):
                better = quality_column(metric).higher_is_better
                seeds, scores = scores_of(results, metric, [less, of])
                if not seeds or better is None:
                    continue
                try:
                    found = paired_difference(scores[less], scores[of], higher_is_better=better)
                except ValueError:  # nothing that both have scored
                    continue
                by_shape = bits * quality_per_bit(results, less, metric)
                ends = (found.mean, found.low, found.high, found.p_value, by_shape)
                counts = (found.seeds, found.utterances)
                rows.append((contrast.effect, line, of, less, rate, metric, *ends, *counts, contrast.planned))
    return pd.DataFrame(rows, columns=COLUMNS)


def contrasts_of_studies(
    studies: Sequence[Results],
    metrics: Sequence[str] | None = None,
    bitrate: float | None = None,
    effects: Sequence[str] | None = None,
) -> pd.DataFrame:
    """`contrasts` of several studies, one below the other; lines that several have name their study.

    effects: names of the effects to keep, in this order; None: all. Raises EffectError for one that no
    study has.
    """
    known = list(dict.fromkeys(one.effect for results in studies for one in contrasts_of(results)))
    for effect in effects or ():
        if effect not in known:
            raise EffectError(f"no contrast has the effect {effect!r}; known: {', '.join(map(repr, known))}")
    frames = [contrasts(results, metrics, bitrate).assign(study=results.study) for results in studies]
    frame = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    kept = [frame[frame["effect"] == effect] for effect in dict.fromkeys(effects or ())]
    frame = pd.concat(kept, ignore_index=True) if kept else frame
    shared = frame.groupby(["effect", "contrast"])["study"].transform("nunique") > 1
    named = frame["contrast"].where(~shared, frame["contrast"] + " (" + frame["study"] + ")")
    return frame.assign(contrast=named)[COLUMNS]


def _rates_apart(of: float, less: float) -> str:
    """What a line adds where its rows (in bit/s) are not at one rate; nothing beside a row without one."""
    if not (of > 0 and less > 0) or abs(of / less - 1) <= RATE_TOLERANCE:
        return ""
    return f" ({of / 1e3:.2f} against {less / 1e3:.2f} kbit/s)"


def _pairs(results: Results, contrast: Contrast) -> list[tuple[str, str, float]]:
    """The labels of each pair of rows that a contrast stands for, with the bitrate of the first."""
    finished = results.finished
    rates = rates_by(finished, "label")
    series = finished.drop_duplicates("label").set_index("label")["series"].astype(str)

    def rows(name: str) -> list[str]:
        if name in rates.index:
            return [name]
        return [str(label) for label in rates.index[series.reindex(rates.index) == name]]

    firsts, seconds = rows(contrast.of), rows(contrast.less)
    if len(firsts) == len(seconds) == 1:
        return [(firsts[0], seconds[0], float(rates[firsts[0]]))]
    pairs = []
    for of in firsts:
        ends = {label: _end(label, contrast.less) for label in seconds}
        pairs += [(of, label, float(rates[of])) for label in seconds if ends[label] == _end(of, contrast.of)]
    return pairs


def _end(label: str, series: str) -> str:
    """What a label adds to its series: the rate that was asked for."""
    return label.removeprefix(series)
