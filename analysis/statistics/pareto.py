"""Pareto fronts: systems that no other one beats in several quantities at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def front(values: np.ndarray, higher_is_better: Sequence[bool] | None = None) -> np.ndarray:
    """Mask [systems] of the rows of `values` [systems, quantities] that no other row beats.

    A row is beaten by one that is nowhere worse and somewhere better; rows with NaN are never in front.

    Args:
        values: one quantity a column.
        higher_is_better: direction of each column; None: less is better in all of them.
    """
    directions = higher_is_better if higher_is_better is not None else [False] * values.shape[1]
    losses = values * np.where(directions, -1.0, 1.0)
    known = ~np.isnan(losses).any(axis=1)
    nowhere_worse = np.all(losses[None] <= losses[:, None], axis=2)
    somewhere_better = np.any(losses[None] < losses[:, None], axis=2)
    return np.logical_and(known, ~np.any(nowhere_worse & somewhere_better, axis=1))
