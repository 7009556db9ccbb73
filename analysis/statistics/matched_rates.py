"""Rows of a study that may be compared because they spend the same bits."""

from __future__ import annotations

from analysis.results.study_results import Results
from experiments.common.matched_rates import RATE_TOLERANCE, rate_groups


class RateError(ValueError):
    """A bitrate at which a study has nothing."""


def main_labels(results: Results) -> list[str]:
    """The unquantized systems, and the quantizers of the rate that most of them share, or all of them where
    the study allows unequal rates."""
    ceiling, groups = _rates(results)
    return ceiling + (groups[0] if groups else [])


def coded_labels(results: Results, bitrate: float | None = None) -> list[str]:
    """`main_labels` without the unquantized systems, or those at `bitrate` (bit/s).

    Raises RateError where nothing finished at that rate.
    """
    _, groups = _rates(results)
    if bitrate is None:
        return groups[0] if groups else []
    rates = results.finished.groupby("label", sort=False)["rate/bitrate"].mean()
    near = [str(label) for label in rates.index if abs(rates[label] / bitrate - 1) <= RATE_TOLERANCE]
    if not near:
        known = ", ".join(sorted({f"{rate / 1e3:.2f}" for rate in rates if rate > 0}, key=float))
        raise RateError(
            f"nothing finished at {bitrate / 1e3:.2f} kbit/s in study {results.study!r}; there are {known} "
            "kbit/s"
        )
    return near


def mismatch_allowed(results: Results) -> bool:
    """True if the study compares quantizers of different bitrates on purpose."""
    return results.settings.get("allow_rate_mismatch") == "true"


def _rates(results: Results) -> tuple[list[str], list[list[str]]]:
    """The labels of unquantized systems, and those of each rate, the rate that most share first."""
    means = results.finished.groupby("label", sort=False)["rate/bitrate"].mean()
    rates = {str(label): float(rate) for label, rate in zip(means.index, means.to_numpy(), strict=True)}
    coded = {label: rate for label, rate in rates.items() if rate > 0}
    ceiling = [label for label in rates if label not in coded]
    if mismatch_allowed(results):
        return ceiling, [list(coded)]
    return ceiling, rate_groups(coded)
