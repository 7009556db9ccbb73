"""Pareto fronts: what nothing else beats in both of two quantities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def front(values: np.ndarray) -> np.ndarray:
    """Mask [trials] of the rows of `values` [trials, objectives] that no other row beats; small is good.

    A row is beaten by one that is nowhere larger and somewhere smaller; rows with NaN are never in front.
    """
    known = np.logical_not(np.any(np.isnan(values), axis=1))
    nowhere_larger = np.all(values[None] <= values[:, None], axis=2)
    somewhere_smaller = np.any(values[None] < values[:, None], axis=2)
    return np.logical_and(known, np.logical_not(np.any(nowhere_larger & somewhere_smaller, axis=1)))


def pareto(cost: np.ndarray, value: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """Mask of the systems that no other one beats in both cost and quality."""
    gain = value if higher_is_better else -value
    better = (cost[None, :] <= cost[:, None]) & (gain[None, :] >= gain[:, None])
    strictly = (cost[None, :] < cost[:, None]) | (gain[None, :] > gain[:, None])
    return np.logical_not((better & strictly).any(axis=1))
