"""Failures of metrics, and the version of the evaluation protocol."""

from __future__ import annotations

PROTOCOL = "v1"


class MetricFailure(Exception):
    """This metric has no value for this clip; the message is the reason, short enough for a table."""


class MetricUnavailable(ValueError):
    """This metric cannot run here (unknown, or not installed); the message is the remedy."""
