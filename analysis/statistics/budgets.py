"""Quality at several budgets of one training (`train.decay_at`), and since when the order has stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.results.study_results import Results
from analysis.statistics.best import best_first
from analysis.statistics.intervals import student_quantile

BUDGET = "budget/"  # of logged metrics
SECONDS = "train_seconds"


class Order(NamedTuple):
    """The order of systems, the best first.

    labels: at the last budget. since: the first budget from which on it is the same; the last one where it
    has just changed. budgets: all.
    """

    labels: tuple[str, ...]
    since: int
    budgets: tuple[int, ...]

    @property
    def moves(self) -> bool:
        """Whether the order of the last budget is not that of the one before."""
        return len(self.budgets) > 1 and self.since == self.budgets[-1]


def by_budget(results: Results, metric: str, labels: Sequence[str]) -> pd.DataFrame:
    """Values of `metric` at every budget, long: label, seed, steps, seconds (of training), value. Empty where
    runs had one budget."""
    logged = results.budgets
    chosen = logged[logged["label"].isin(list(labels))]
    keys = ["label", "seed", "step"]
    values = chosen[chosen["metric"] == BUDGET + metric].set_index(keys)["value"]
    seconds = chosen[chosen["metric"] == BUDGET + SECONDS].set_index(keys)["value"]
    frame = pd.DataFrame({"value": values, "seconds": seconds}).dropna(subset=["value"]).reset_index()
    return frame.rename(columns={"step": "steps"})


def budget_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of `by_budget`: label, steps, seconds, mean, low (least seed), high, seeds."""
    grouped = frame.groupby(["label", "steps"], sort=False)
    means = grouped.agg(
        seconds=("seconds", "mean"),
        mean=("value", "mean"),
        low=("value", "min"),
        high=("value", "max"),
        seeds=("value", "size"),
    )
    return means.reset_index()


def order(frame: pd.DataFrame, higher_is_better: bool | None) -> Order | None:
    """The order by means over seeds at budgets that all systems have; None with fewer than two of either."""
    means = frame.pivot_table(index="steps", columns="label", values="value").dropna()
    if higher_is_better is None or means.shape[0] < 2 or means.shape[1] < 2:
        return None
    labels = [str(label) for label in means]
    orders = [
        tuple(best_first(dict(zip(labels, row, strict=True)), higher_is_better))
        for row in means.to_numpy().tolist()
    ]
    budgets = tuple(int(steps) for steps in means.index)
    since = len(orders) - 1
    while since and orders[since - 1] == orders[-1]:
        since -= 1
    return Order(orders[-1], budgets[since], budgets)


def budget_differences(frame: pd.DataFrame, best: str) -> pd.DataFrame:
    """Each system less `best`, paired over seeds: label, steps, difference, low, high (95 %, Student's t over
    seeds), seeds. With one seed the ends are NaN."""
    rows = []
    values = frame.pivot_table(index=["steps", "seed"], columns="label", values="value")
    if best not in values:
        return pd.DataFrame(columns=["label", "steps", "difference", "low", "high", "seeds"])
    for label in [name for name in values if name != best]:
        paired = (values[label] - values[best]).dropna()
        for steps in paired.index.unique("steps").tolist():
            of_seeds = paired.xs(steps, level="steps")
            seeds, mean, half = len(of_seeds), float(of_seeds.mean()), float("nan")
            if seeds > 1:
                error = float(of_seeds.std(ddof=1)) / np.sqrt(seeds)
                half = float(student_quantile(np.array(0.025), seeds - 1)) * error
            rows.append((str(label), int(steps), mean, mean - half, mean + half, seeds))
    return pd.DataFrame(rows, columns=["label", "steps", "difference", "low", "high", "seeds"])
