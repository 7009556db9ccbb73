"""Equal tuning: as many trials at the same cost for each family of quantizers, and the best of each.

The trials are a study of their own, `STUDY-trials`, with one row a trial and the study's first seed. The
winner of a family has the least validation loss; the test set is not looked at. `tuned_study` puts the
winners beside the defaults, with the seeds that no trial has seen.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments.common.matched_rates import RATE_TOLERANCE
from experiments.search.space import SearchError
from experiments.studies import study as studies
from experiments.studies.row_rates import row_rates
from experiments.studies.runs import Run, resolved_options
from experiments.studies.sections import Evaluate, Family, QuantizerChoice
from experiments.studies.study import Study, StudyError, asked_of_features
from experiments.tracking.schema import FINISHED, status_of
from experiments.tracking.store import Store
from quantizers import QuantizerError

COLUMNS = ("family", "trial", "label", "status", "bits", "options", "run_hash")


@dataclass(frozen=True)
class Trial:
    """One choice of the options of a family. number: 0 is the family's default. bits: nominal, a frame."""

    family: Family
    number: int
    choice: QuantizerChoice
    bits: float


def draw(study: Study, bits: float) -> list[Trial]:
    """As many trials for each family of `study.search`, the default first, the others at random.

    No two of a family come to one configuration, as far as it is known before the features are:
    `channels: fit` can turn out to be the number of another trial. All are within 2 % of `bits` a frame.
    Raises SearchError where a value cannot be, or is off the rate beside the defaults of the others; where a
    family has too few combinations; where the study has axes; and where it has one seed, which the trials
    take.
    """
    assert study.search is not None
    if len(study.seeds) < 2:
        raise SearchError(
            f"{study.name}: seeds: the trials take the first seed, and the winners need others that no trial "
            "has seen; give two or more"
        )
    if study.axes:
        keys = ", ".join(key for axis in study.axes for key in axis.keys)
        raise SearchError(
            f"{study.name}: a search is at one place, and {keys} have several values; give one of each"
        )
    at_rate = study.model_copy(update={"bits": bits, "bitrate": None})
    trials = []
    for family in study.search.families:
        _check_values(at_rate, family)
        drawn = list(
            itertools.islice(_combinations(at_rate, family, study.search.seeds[0]), study.search.trials)
        )
        if len(drawn) < study.search.trials:
            raise SearchError(
                f"search.families: {family.row} has {len(drawn)} combinations within {RATE_TOLERANCE:.0%} of "
                f"{bits:g} bits per frame, fewer than the {study.search.trials} trials that every family "
                "gets. Remedy: add values to its `over`, or lower search.trials"
            )
        trials += drawn
    return trials


def _check_values(study: Study, family: Family) -> None:
    """Try each value beside the first ones of the others. Raises SearchError for one that cannot be."""
    firsts = {name: values[0] for name, values in family.over.items()}
    bits = study.bits or 1.0
    for name, values in family.over.items():
        for value in values:
            options = {**family.options, **firsts, name: value}
            choice = QuantizerChoice(name=family.name, label=family.row, options=options)
            where = f"search.families: {family.row}: over: {name}: {value}"
            try:
                rates = row_rates(study.model_copy(update={"quantizers": (choice,)}))
            except (QuantizerError, StudyError) as error:
                raise SearchError(f"{where} cannot be: {str(error).split(': ')[-1]}") from None
            if not rates or abs(rates[0].bits_per_frame / bits - 1) > RATE_TOLERANCE:
                spent = rates[0].bits_per_frame if rates else 0.0
                raise SearchError(
                    f"{where} spends {spent:.2f} bits per frame, more than "
                    f"{RATE_TOLERANCE:.0%} off {bits:g}; leave it out"
                )


def _combinations(study: Study, family: Family, seed: int) -> Iterator[Trial]:
    names, values = list(family.over), list(family.over.values())
    shape = [len(each) for each in values]
    order = np.random.default_rng(seed).permutation(np.arange(1, math.prod(shape)))
    drawn: set[str] = set()
    for index in (0, *order):
        places = np.unravel_index(int(index), shape)
        chosen = {name: each[place] for name, each, place in zip(names, values, places, strict=True)}
        options = {**family.options, **chosen}
        choice = QuantizerChoice(name=family.name, label=f"{family.row} {len(drawn)}", options=options)
        one = study.model_copy(update={"quantizers": (choice,)})
        try:
            rates = row_rates(one)
            what = asked_of_features(one, choice) or resolved_options(one, choice)
        except (QuantizerError, StudyError):  # values that do not go together
            continue
        configuration = json.dumps(what, sort_keys=True)
        within = rates and abs(rates[0].bits_per_frame / (study.bits or 1.0) - 1) <= RATE_TOLERANCE
        if within and configuration not in drawn:
            drawn.add(configuration)
            yield Trial(family, len(drawn) - 1, choice, rates[0].bits_per_frame)


def trial_study(study: Study, trials: Sequence[Trial], bits: float) -> Study:
    """The study of all trials: one seed, and one cheap metric, since only validation counts."""
    return study.model_copy(
        update={
            "name": f"{study.name}-trials",
            "question": f"Trials of {study.name}: {study.question}" if study.question else "",
            "quantizers": tuple(trial.choice for trial in trials),
            "bits": bits,
            "bitrate": None,
            "seeds": study.seeds[:1],
            "references": (),
            "search": None,
            "evaluate": Evaluate(metrics=("mel_distance",), audio_examples=0, snapshots=0),
        }
    )


def outcomes(trials: Sequence[Trial], runs: Sequence[Run], store: Store, objective: str) -> pd.DataFrame:
    """One row a trial, see `COLUMNS`, and `objective`, NaN where a run did not finish."""
    by_label = {run.label: run for run in runs}
    current = store.current([run.hash for run in runs])
    rows = []
    for trial in trials:
        run = by_label[trial.choice.row]
        logged = current.get(run.hash)
        status = status_of(logged)[0] if logged is not None else ""
        value = (
            logged.data.metrics.get(objective, math.nan)
            if logged is not None and status == FINISHED
            else math.nan
        )
        told = (trial.family.row, trial.number, trial.choice.row, status, trial.bits)
        options = json.dumps({name: trial.choice.options[name] for name in trial.family.over})
        rows.append((*told, options, run.hash, value))
    return pd.DataFrame(rows, columns=[*COLUMNS, objective])


def winners(frame: pd.DataFrame, objective: str) -> dict[str, int]:
    """Number of the trial with the least `objective` of each family that has one."""
    finished = frame[frame[objective].notna()]
    best = (
        finished.loc[finished.groupby("family", sort=False)[objective].idxmin()]
        if len(finished)
        else finished
    )
    return dict(zip(best["family"], map(int, best["trial"]), strict=True))


def tuned_study(
    study: Study, trials: Sequence[Trial], best: Mapping[str, int], bits: float
) -> dict[str, Any]:
    """The content of a study file with each family's default and its winner, a row each.

    A default that won is one row. The seed of the trials is left out, since winners were chosen by it. There
    are two kinds of contrasts: each winner less its default, and each less the winner of the first family.
    """
    assert study.search is not None
    rows = []
    winning: dict[str, str] = {}  # label of the winner by the label of its default
    for family in study.search.families:
        own = {trial.number: trial for trial in trials if trial.family.row == family.row}
        if family.row not in best:
            continue
        tuned = f"best of {len(own)} trials by {study.search.objectives[0]}, over {', '.join(family.over)}"
        for number in dict.fromkeys((0, best[family.row])):
            won = number == best[family.row]
            label = family.row if number == 0 else f"{family.row} tuned"
            row = {"name": family.name, "label": label, "options": own[number].choice.options}
            rows.append({**row, **({"tuned": tuned} if won else {})})
        winning[family.row] = label
    labels = list(winning.values())
    contrasts = [
        *({"effect": "tuning", "of": label, "less": row} for row, label in winning.items() if label != row),
        *({"effect": "family, each tuned", "of": label, "less": labels[0]} for label in labels[1:]),
    ]
    kept = study.model_dump(
        mode="json",
        exclude_defaults=True,
        include={"question", "backbone", "data", "train", "evaluate", "references"},
    )
    seeds = list(study.seeds[1:])
    values = {"name": f"{study.name}-tuned", **kept, "quantizers": rows, "bits": bits, "seeds": seeds}
    values["contrasts"] = contrasts
    studies.check(values, f"{study.name}-tuned")
    return values
