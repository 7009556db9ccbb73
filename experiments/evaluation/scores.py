"""Score reconstructions against references, and sum the scores up with their uncertainty."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments import metrics
from experiments.metrics.pool import score_tasks
from experiments.metrics.scoring import OK, Score, Task, failures, score_utterance

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger("codecbench.evaluation")

COLUMNS = ("utterance", "metric", "value", "status", "backend", "protocol")

Progress = Callable[[int, int], None]
"""Called with (utterances done, utterances asked)."""


class EvaluationError(ValueError):
    """Something that cannot be evaluated; the message says what to change."""


def score(
    references: Mapping[str, np.ndarray],
    reconstructions: Mapping[str, np.ndarray],
    sample_rate: int,
    metric_names: Sequence[str],
    *,
    workers: int = 1,
    progress: Progress | None = None,
    reference_cache: Path | None = None,
) -> pd.DataFrame:
    """Every metric for every utterance of `references`, by evaluation protocol v1.

    Both mappings go from utterance to a mono clip `[samples]` at `sample_rate` Hz. They may read lazily:
    clips are asked for one by one, and only a few are held at a time. `workers` is the number of processes;
    1 scores in this one. `reference_cache` is a folder in which what is computed from a reference alone is
    kept, by content, for the other systems of a study; one that cannot be used is a warning in the log.

    Returns one row for each utterance and metric: `utterance`, `metric`, `value` (NaN when it failed),
    `status` (`ok` or the reason), `backend` (with its version), `protocol`. The values do not depend
    on `workers` or on the cache.

    Raises `MetricUnavailable` for a metric that is unknown or not installed, and `EvaluationError` for a
    reconstruction without reference, and without any metric; both are `ValueError`.
    """
    import pandas as pd

    names = tuple(dict.fromkeys(metric_names))
    if not names:
        raise EvaluationError("no metrics to score by")
    require(names)
    if unknown := [name for name in reconstructions if name not in references]:
        raise EvaluationError(f"{len(unknown)} reconstructions have no reference, such as {unknown[0]!r}")
    if workers < 1:
        raise EvaluationError(f"workers must be at least 1, got {workers}")

    scores: dict[tuple[str, str], Score] = {}
    done = 0

    def record(results: list[Score]) -> None:
        nonlocal done, reference_cache
        warnings = [result.warning for result in results if result.warning]
        if warnings and reference_cache is not None:
            _log.warning("no reference cache: %s; references are computed for each system anew", warnings[0])
            reference_cache = None
        scores.update({(result.utterance, result.metric): result for result in results})
        done += 1
        if progress is not None:
            progress(done, len(references))

    def tasks() -> Iterator[Task]:
        for utterance in references:
            reason = "no reconstruction"
            if utterance in reconstructions:
                try:
                    pair = references[utterance], reconstructions[utterance]
                    yield Task(utterance, *pair, sample_rate, names, reference_cache)
                    continue
                except (OSError, ValueError, RuntimeError) as error:
                    reason = f"cannot be read: {error}"
            record(failures(utterance, names, reason))

    if workers == 1:
        for task in tasks():
            record(score_utterance(task))
    else:
        modules = {module for name in names for module in metrics.get(name).modules}
        for results in score_tasks(tasks(), min(workers, max(1, len(references))), modules):
            record(results)

    versions = {name: metrics.get(name).version() for name in names}
    rows = [
        (utterance, name, scores[utterance, name].value, scores[utterance, name].status, versions[name])
        for utterance in references
        for name in names
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS[:-1])).assign(protocol=metrics.PROTOCOL)


def require(metric_names: Sequence[str]) -> None:
    """Raise `MetricUnavailable` with the remedy for a metric that is unknown or cannot run here."""
    for name in metric_names:
        metrics.get(name).require()


def aggregate(
    frame: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0, resamples: int = 10_000, worst: int = 3
) -> pd.DataFrame:
    """One row per metric from the rows of `score`, in the order of their first appearance.

    `asked`, `scored`, `failed` count utterances; `mean` and `median` are over those scored; `low`
    and `high` bound the percentile bootstrap interval of the mean over utterances (NaN with fewer than
    two); `reasons` counts the failures by reason; `worst` names the worst utterances, worst first.
    """
    import pandas as pd

    rows = []
    for name, group in frame.groupby("metric", sort=False):
        # By name, so that the interval does not depend on the order in which utterances came.
        scored = group[group["status"] == OK].sort_values("utterance")
        values = scored["value"].to_numpy(dtype=np.float64)
        low, high = bootstrap_interval(values, confidence=confidence, seed=seed, resamples=resamples)
        better = _higher_is_better(str(name))
        # Of a diagnosis, the worst is the farthest from zero.
        distance = (lambda values: values.abs()) if better is None else None
        ranked = scored.sort_values("value", ascending=better is True, kind="stable", key=distance)
        reasons = group.loc[group["status"] != OK, "status"].value_counts()
        rows.append(
            {
                "metric": name,
                "asked": len(group),
                "scored": len(scored),
                "failed": len(group) - len(scored),
                "mean": values.mean() if len(values) else np.nan,
                "low": low,
                "high": high,
                "median": np.median(values) if len(values) else np.nan,
                "reasons": "; ".join(f"{count} x {reason}" for reason, count in reasons.items()),
                "worst": tuple(ranked["utterance"].head(worst)),
            }
        )
    columns = ["metric", "asked", "scored", "failed", "mean", "low", "high", "median", "reasons", "worst"]
    return pd.DataFrame(rows, columns=columns)


def _higher_is_better(name: str) -> bool | None:
    try:
        return metrics.get(name).higher_is_better
    except metrics.MetricUnavailable:
        return True


def bootstrap_interval(
    values: np.ndarray, *, confidence: float = 0.95, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` `[n]` (Efron and Tibshirani 1993, ch. 13)."""
    if len(values) < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    # Blocks, so that memory does not grow with the corpus.
    block = max(1, 4_000_000 // len(values))
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        means[start : start + count] = values[
            generator.integers(len(values), size=(count, len(values)))
        ].mean(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
