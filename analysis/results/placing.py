"""Rates by which runs are placed: nominal, or measured where a training was entropy-constrained.

A quantizer that was trained with `train.rate_weight` spends its codes unevenly on purpose. Its nominal rate
is then that of no file, and tables and figures place it by the rate of its entropy-coded test set,
`rate/coded`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

NOMINAL = "rate/bitrate"  # the metric of the bits that codes would take if all were as frequent
RATE_WEIGHT = "param/train.rate_weight"
MEASURED = ("rate/coded", "rate/entropy_bitrate")  # the second where the first is missing


def placing_rates(runs: pd.DataFrame) -> pd.Series:
    """The bitrate of each of `runs` in bit/s: measured where it was entropy-constrained, else nominal."""
    nominal = runs[NOMINAL]
    weighted = is_measured(runs)
    for name in MEASURED:
        if name in runs and weighted.any():
            use = weighted & runs[name].notna()
            nominal, weighted = nominal.where(~use, runs[name]), weighted & ~use
    return nominal


def is_measured(runs: pd.DataFrame) -> pd.Series:
    """Which of `runs` are placed by their measured rate."""
    if RATE_WEIGHT not in runs:
        return pd.Series(False, index=runs.index)
    weight = pd.to_numeric(runs[RATE_WEIGHT], errors="coerce")
    return (weight > 0) & (runs[NOMINAL] > 0)


def rates_by(runs: pd.DataFrame, key: str) -> pd.Series:
    """Mean of `placing_rates` in bit/s for each value of the column `key`, in order of appearance."""
    return placing_rates(runs).groupby(runs[key], sort=False).mean()


def sentence(labels: Sequence[str]) -> str:
    """What to say of rows that are placed by their measured rate; nothing of none."""
    if not labels:
        return ""
    return (
        f"Entropy-constrained rows stand at the measured rate of their entropy-coded test set, the others at "
        f"their nominal rate: {', '.join(labels)}."
    )


def measured_labels(runs: pd.DataFrame) -> list[str]:
    """Labels of `runs` that are placed by their measured rate."""
    return list(dict.fromkeys(map(str, runs[is_measured(runs)]["label"])))
