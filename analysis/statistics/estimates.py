"""Values of systems with their intervals, over one seed or several."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from analysis.results.placing import NOMINAL, placing_rates
from analysis.results.study_metrics import logged_metrics
from analysis.results.study_results import Results
from analysis.statistics.intervals import Interval, mean_interval


def estimate(results: Results, runs: pd.DataFrame, source: str) -> Interval:
    """Mean over `runs`, the finished seeds of one label, with its 95 % interval; NaN where unknown.

    One seed keeps the interval that its evaluation logged; several get one over seeds and utterances.
    """
    mean = float(runs[source].astype(float).mean())
    nothing = float("nan")
    if not source.startswith("eval/") or not math.isfinite(mean):
        return Interval(mean, nothing, nothing)
    if len(runs) == 1:
        low, high = (
            float(runs[name].iloc[0]) if (name := f"{source}_{end}") in runs else nothing
            for end in ("low", "high")
        )
        return Interval(mean, low, high)
    scores = results.scores(source.removeprefix("eval/"), list(runs["run_id"]))
    if not scores.size:
        return Interval(mean, nothing, nothing)
    interval = mean_interval(scores)
    # Utterances that failed in some seed are left out of the interval, never out of the mean.
    shift = mean - interval.mean
    return Interval(mean, interval.low + shift, interval.high + shift)


def summary(
    results: Results,
    metrics: Sequence[str] | None = None,
    *,
    references: bool = False,
    rate: str = NOMINAL,
) -> pd.DataFrame:
    """Summarise each finished label, one row per metric.

    Columns: label, series, quantizer, reference, seeds, bits_per_frame, bitrate (bit/s), metric, mean, low,
    high.
    references: include codecs by others, at the end. rate: logged metric that is the bitrate, such as
    `rate/coded`; quantizers whose runs lack it are left out.
    """
    names = logged_metrics(results) if metrics is None else list(metrics)
    rows = []
    groups = [*results.finished.groupby("label", sort=False)]
    if references and len(results.finished_references):
        groups += [*results.finished_references.groupby("label", sort=False)]
    for label, runs in groups:
        reference = bool(runs["reference"].iloc[0])
        bitrate = placing_rates(runs).mean()
        if rate != NOMINAL and bitrate > 0 and not reference:
            bitrate = runs[rate].mean() if rate in runs else math.nan
            if math.isnan(bitrate):
                continue
        for metric in names:
            if f"eval/{metric}" not in runs:
                continue
            value = estimate(results, runs, f"eval/{metric}")
            rows.append(
                {
                    "label": label,
                    "series": runs["series"].iloc[0],
                    "quantizer": runs["quantizer"].iloc[0],
                    "reference": reference,
                    "seeds": len(runs),
                    "bits_per_frame": runs["rate/bits_per_frame"].mean(),
                    "bitrate": bitrate,
                    "metric": metric,
                    "mean": value.mean,
                    "low": value.low,
                    "high": value.high,
                }
            )
    return pd.DataFrame(
        rows,
        columns=[
            "label",
            "series",
            "quantizer",
            "reference",
            "seeds",
            "bits_per_frame",
            "bitrate",
            "metric",
            "mean",
            "low",
            "high",
        ],
    )
