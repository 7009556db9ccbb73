"""Voicing and pitch agreement from swift-f0 tracks: frames of 16 ms, voiced from a confidence of 0.5."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.failures import MetricFailure
from experiments.metrics.signals import Signal

if TYPE_CHECKING:
    from swift_f0 import SwiftF0

_RATE = 16000
PITCH_RANGE = (50.0, 550.0)
"""Hz, as in the WavTokenizer and Q2D2 papers."""
VOICED = 0.5


@functools.cache
def _detector() -> SwiftF0:
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1, spin=False)


def _track(signal: Signal) -> np.ndarray:
    """Pitch in Hz and confidence, `[2, frames]`."""
    import importlib.metadata

    def detect() -> np.ndarray:
        result = _detector().detect(signal.at(_RATE), _RATE, *PITCH_RANGE)
        return np.stack([result.pitch_hz, result.confidence]).astype(np.float32)

    return signal.derive(f"pitch swift-f0 {importlib.metadata.version('swift-f0')}", detect, keep=True)


def _voicing(reference: Signal, reconstruction: Signal) -> tuple[np.ndarray, np.ndarray]:
    reference.require_sound()
    reference.require_seconds(0.1)
    expected, obtained = _track(reference)[1] >= VOICED, _track(reconstruction)[1] >= VOICED
    return expected, obtained


def _vuv_f1(reference: Signal, reconstruction: Signal) -> float:
    return f1(*_voicing(reference, reconstruction))


def _pitch_rmse(reference: Signal, reconstruction: Signal) -> float:
    both = np.logical_and(*_voicing(reference, reconstruction))
    return cents_rmse(_track(reference)[0][both], _track(reconstruction)[0][both])


def _periodicity_rmse(reference: Signal, reconstruction: Signal) -> float:
    reference.require_sound()
    reference.require_seconds(0.1)
    return float(np.sqrt(np.mean(np.square(_track(reference)[1] - _track(reconstruction)[1]))))


def f1(expected: np.ndarray, obtained: np.ndarray) -> float:
    """F1 of voiced frames, both boolean `[frames]`."""
    if not expected.any():
        raise MetricFailure("no voiced frame in the reference")
    return 2 * float((expected & obtained).sum()) / float(expected.sum() + obtained.sum())


def cents_rmse(expected: np.ndarray, obtained: np.ndarray) -> float:
    """Root mean square error in cents over frames `[frames]` in Hz that are voiced in both clips."""
    if not len(expected):
        raise MetricFailure("no frame voiced in both")
    return float(np.sqrt(np.mean(np.square(1200 * np.log2(obtained / expected)))))


METRICS = (
    Metric(
        name="vuv_f1",
        unit="",
        higher_is_better=True,
        sample_rate=_RATE,
        backend="swift-f0",
        measure=_vuv_f1,
        summary="F1 of voiced frames; orders codecs by bitrate",
        distributions=("swift-f0",),
        modules=("swift_f0",),
        licence="MIT",
        cost="0.016, once for the three",
        core=True,
    ),
    Metric(
        name="pitch_rmse",
        unit="cents",
        higher_is_better=False,
        sample_rate=_RATE,
        backend="swift-f0",
        measure=_pitch_rmse,
        summary="intonation kept, over frames voiced in both; octave jumps dominate",
        distributions=("swift-f0",),
        modules=("swift_f0",),
        licence="MIT",
        cost="0.016, once for the three",
    ),
    Metric(
        name="periodicity_rmse",
        unit="",
        higher_is_better=False,
        sample_rate=_RATE,
        backend="swift-f0",
        measure=_periodicity_rmse,
        summary="voicing strength kept; compare within one backend only",
        distributions=("swift-f0",),
        modules=("swift_f0",),
        licence="MIT",
        cost="0.016, once for the three",
    ),
)
