"""Rows of a study that may be compared because they spend the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.results.placing import rates_by
from analysis.results.study_results import Results
from experiments.common.matched_rates import RATE_TOLERANCE, rate_groups


class RateError(ValueError):
    """A bitrate at which a study has nothing."""


def main_labels(results: Results) -> list[str]:
    """Labels of the unquantized systems and of the quantizers at the headline rate.

    If the study allows unequal rates, all quantizers are included. The headline rate is that of
    `at_bitrate`; by default it is the rate with the most quantizers, and the highest of such rates.
    """
    ceiling, groups = labels_by_rate(results)
    return ceiling + (groups[0] if groups else [])


def coded_labels(results: Results, bitrate: float | None = None) -> list[str]:
    """The labels of `main_labels` without the unquantized systems, or the labels at `bitrate` (bit/s).

    Raises RateError where nothing has finished at that rate.
    """
    groups = labels_by_rate(results if bitrate is None else at_bitrate(results, bitrate))[1]
    return groups[0] if groups else []


def at_bitrate(results: Results, bitrate: float | None) -> Results:
    """The study with another headline rate, in bit/s; None leaves it.

    Raises RateError where nothing finished at that rate.
    """
    if bitrate is None:
        return results
    rates = list(_coded(results).values())
    if not any(abs(rate / bitrate - 1) <= RATE_TOLERANCE for rate in rates):
        known = ", ".join(sorted({f"{rate:.0f}" for rate in rates}, key=float)) or "none"
        raise RateError(
            f"nothing finished at {bitrate:g} bit/s in study {results.study!r}; there are {known} bit/s"
        )
    return replace(results, headline_bitrate=bitrate)


def mismatch_allowed(results: Results) -> bool:
    """True if the study compares quantizers of different bitrates on purpose."""
    return results.settings.get("allow_rate_mismatch") == "true"


def labels_by_rate(results: Results) -> tuple[list[str], list[list[str]]]:
    """The labels of unquantized systems, and those of each rate, the headline rate first.

    All coded labels are one group where the study allows unequal rates and no headline rate was asked for.
    """
    coded = _coded(results)
    ceiling = [str(label) for label in dict.fromkeys(results.finished["label"]) if label not in coded]
    if results.headline_bitrate is not None:
        wanted = results.headline_bitrate
        main = [label for label, rate in coded.items() if abs(rate / wanted - 1) <= RATE_TOLERANCE]
        others = {label: rate for label, rate in coded.items() if label not in main}
        return ceiling, [main, *rate_groups(others)]
    if mismatch_allowed(results):
        return ceiling, [list(coded)]
    return ceiling, rate_groups(coded)


def _coded(results: Results) -> dict[str, float]:
    """Bitrate of each label that spends bits, in bit/s, as `results.placing` has it."""
    means = rates_by(results.finished, "label")
    return {str(label): float(rate) for label, rate in means.items() if rate > 0}


def rate_in_words(results: Results, labels: Sequence[str]) -> str:
    """The rate of `labels`, such as `3.33 kbit/s`, or its range where they differ by more than 2 %."""
    own = results.finished[results.finished["label"].isin(list(labels))]
    rates = rates_by(own, "label") / 1e3
    if rates.empty:
        return ""
    low, high = float(rates.min()), float(rates.max())
    if high > low * (1 + 2 * RATE_TOLERANCE):
        return f"{low:.2f} to {high:.2f} kbit/s"
    return f"{rates.mean():.2f} kbit/s"
