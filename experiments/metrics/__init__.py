"""Objective metrics of a reconstruction, one small family a file.

`available()` names them, `get(name)` returns one, and a metric that cannot score a clip raises
`MetricFailure` with the reason: a failure is a status, never a number.
"""

from experiments.metrics.contract import Metric
from experiments.metrics.failures import PROTOCOL, MetricFailure, MetricUnavailable
from experiments.metrics.registry import STANDARD, Facts, available, core, facts, get
from experiments.metrics.signals import Signal

__all__ = [
    "PROTOCOL",
    "STANDARD",
    "Facts",
    "Metric",
    "MetricFailure",
    "MetricUnavailable",
    "Signal",
    "available",
    "core",
    "facts",
    "get",
]
