"""Matched rate: the one rule by which plans, runs, tables and statistics tell what may be compared.

Two rows are at one rate when their nominal bitrates differ by no more than `RATE_TOLERANCE` from the centre
of their group.
"""

from collections.abc import Mapping
from typing import NamedTuple

RATE_TOLERANCE = 0.02


class RateGroups(NamedTuple):
    """Labels of the rows by rate.

    groups: those that may be compared with each other, the main rate first, then rising rates. alone: rows
    that match no other, each with how far its rate is off the main one, as a fraction. main_rate: bit/s.
    """

    groups: list[list[str]]
    alone: dict[str, float]
    main_rate: float


def rate_groups(rates: Mapping[str, float], tolerance: float = RATE_TOLERANCE) -> list[list[str]]:
    """Group labels by bitrate: each group's members are within `tolerance` of its central rate.

    The largest group comes first, of several that are as large the one of the highest rate; within a group
    the order is kept.
    """
    left = dict(rates)
    groups = []
    while left:
        near = {
            centre: [label for label in left if abs(left[label] / left[centre] - 1) <= tolerance]
            for centre in left
        }
        best = max(
            near, key=lambda c: (len(near[c]), -sum(abs(left[m] / left[c] - 1) for m in near[c]), -left[c])
        )
        groups.append(near[best])
        left = {label: rate for label, rate in left.items() if label not in near[best]}
    main = max(groups, key=lambda group: (len(group), rates[group[0]]), default=None)
    return [main, *(group for group in groups if group is not main)] if main else []


def matched(rates: Mapping[str, float], main_rate: float | None = None) -> RateGroups:
    """The rows of a study by rate, `rates` in bit/s by label, all above 0.

    main_rate: bit/s of the rate that is asked for; by default that of the first of `rate_groups`.
    """
    if not rates:
        return RateGroups([], {}, 0.0)
    main = [label for label in rates if main_rate and abs(rates[label] / main_rate - 1) <= RATE_TOLERANCE]
    groups = rate_groups({label: rate for label, rate in rates.items() if label not in main})
    several = [group for group in groups if len(group) > 1]
    single = [group[0] for group in groups if len(group) == 1]
    if main:
        several.insert(0, main)
    elif not several:  # nothing to match: one system, or every system at its own rate
        several, single = [single[:1]], single[1:]
    centre = main_rate or sum(rates[label] for label in several[0]) / len(several[0])
    # The main rate comes first, if any is.
    first = 1 if main or len({len(group) for group in several}) > 1 else 0
    several[first:] = sorted(several[first:], key=lambda group: rates[group[0]])
    return RateGroups(several, {label: rates[label] / centre - 1 for label in single}, centre)
