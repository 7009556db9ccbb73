"""Metrics of a study: those that it asks for, those that its runs have, and the columns that show them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.results.columns import COLUMNS, SCORED
from experiments import metrics

if TYPE_CHECKING:
    from analysis.results.study_results import Results

RATES_AND_USE = (
    "bits_per_frame",
    "token_rate",
    "bitrate",
    "entropy_bitrate",
    "used_fraction",
    "perplexity",
    "entropy_fraction",
)
COSTS = ("parameters", "real_time_factor")
ALL = "all"  # in place of the keys of columns
_KEY = "evaluate.metrics"  # of the study's logged settings


def asked_metrics(results: Results) -> list[str]:
    """Metrics in the order of the study's `evaluate.metrics`.

    Of a store that does not say what was asked for: those that its runs scored, in the order of
    `metrics.available`.
    """
    try:
        names = json.loads(results.settings.get(_KEY, "null"))
    except ValueError:  # not logged whole
        names = None
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return list(dict.fromkeys(names))
    scored = [name for name in map(str, results.runs.columns) if name.endswith("_asked")]
    scored = [name.removesuffix("_asked").removeprefix("eval/") for name in scored if name[:5] == "eval/"]
    return [name for name in metrics.available() if name in scored] + sorted(
        set(scored) - set(metrics.available())
    )


def logged_metrics(results: Results) -> list[str]:
    """Metrics of `asked_metrics` that some run has."""
    return [metric for metric in asked_metrics(results) if f"eval/{metric}" in results.runs]


def quality_keys(results: Results) -> list[str]:
    """Keys of the columns of quality: what the study asks for, then how many utterances were scored."""
    names = asked_metrics(results)
    return [*(name if name in COLUMNS else f"eval/{name}" for name in names), SCORED.key]


def default_keys(results: Results) -> tuple[str, ...]:
    """Keys of the columns of a comparison table where none are named: bitrate, quality, use of the codes.

    How many utterances were scored is told by notes, where a metric failed.
    """
    *quality, _ = quality_keys(results)
    return ("bitrate", *quality, "used_fraction")


def all_keys(results: Results) -> tuple[str, ...]:
    """Keys of the columns of a whole table: bitrate and quality, then rates, use of the codes, cost."""
    return tuple(dict.fromkeys(["bitrate", *quality_keys(results), *RATES_AND_USE, *COSTS]))


def expanded_keys(results: Results, keys: Sequence[str] | None) -> tuple[str, ...]:
    """`keys` of columns, in them `ALL` for those of a whole table; without `keys` those of `default_keys`."""
    if keys is None:
        return default_keys(results)
    every = ((key,) if key != ALL else all_keys(results) for key in keys)
    return tuple(dict.fromkeys(key for some in every for key in some))
