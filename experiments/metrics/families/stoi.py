"""STOI (Taal et al. 2011) and extended STOI (Jensen and Taal 2016) at 10 kHz.

The analysis (silence removal, one-third octave bands) is `pystoi`'s, done once for both. The correlations
are written out here: the package repeats the analysis for each, adds random noise in ESTOI, so that its last
digits change from call to call, and answers 1e-5 where there is too little speech.
"""

from __future__ import annotations

import functools

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.failures import MetricFailure
from experiments.metrics.signals import Signal

_RATE = 10000
_FRAME, _FFT = 256, 512
_BANDS, _LOWEST_BAND = 15, 150
_SILENCE_DB = 40
_SEGMENT = 30
"""Frames in the window over which envelopes are correlated, 384 ms."""
_CLIP = 1 + 10 ** (15 / 20)
"""The decoded envelope is cut at a signal-to-distortion ratio of -15 dB (Taal et al. 2011, eq. 3)."""
_EPSILON = np.finfo(float).eps


def _segments(reference: Signal, reconstruction: Signal) -> np.ndarray:
    """Envelopes of both clips in overlapping segments, `[2, segments, bands, frames]`."""
    from pystoi import utils

    def analyse() -> np.ndarray:
        reference.require_sound()
        reconstruction.require_sound()
        reference.require_seconds(0.4)
        clips = (signal.at(_RATE).astype(np.float64) for signal in (reference, reconstruction))
        speech = utils.remove_silent_frames(*clips, _SILENCE_DB, _FRAME, _FRAME // 2)
        if (len(speech[0]) - _FRAME - 1) // (_FRAME // 2) + 1 < _SEGMENT:
            raise MetricFailure("too little speech: under 0.4 s once silent frames are removed")
        bands, _ = utils.thirdoct(_RATE, _FFT, _BANDS, _LOWEST_BAND)
        power = [np.square(np.abs(utils.stft(clip, _FRAME, _FFT, overlap=2))) @ bands.T for clip in speech]
        envelopes = np.sqrt(np.stack(power)).swapaxes(1, 2)
        return np.lib.stride_tricks.sliding_window_view(envelopes, _SEGMENT, axis=2).swapaxes(1, 2)

    return reconstruction.derive("octave bands beside the reference", analyse)


def _normalised(values: np.ndarray, axis: int) -> np.ndarray:
    """Zero mean and unit norm along `axis`."""
    values = values - values.mean(axis, keepdims=True)
    return values / (np.sqrt(np.square(values).sum(axis, keepdims=True)) + _EPSILON)


def _stoi(reference: Signal, reconstruction: Signal) -> float:
    x, y = _segments(reference, reconstruction)
    norms = [np.sqrt(np.square(values).sum(-1, keepdims=True)) for values in (x, y)]
    clipped = np.minimum(y * (norms[0] / (norms[1] + _EPSILON)), x * _CLIP)
    return float((_normalised(x, -1) * _normalised(clipped, -1)).sum(-1).mean())


def _estoi(reference: Signal, reconstruction: Signal) -> float:
    x, y = (_normalised(_normalised(values, -1), -2) for values in _segments(reference, reconstruction))
    return float((x * y).sum((-2, -1)).mean() / _SEGMENT)


_metric = functools.partial(
    Metric,
    unit="",
    higher_is_better=True,
    sample_rate=_RATE,
    backend="pystoi",
    distributions=("pystoi",),
    modules=("pystoi",),
    licence="MIT",
    core=True,
)

METRICS = (
    _metric(
        name="stoi",
        measure=_stoi,
        summary="intelligibility; saturates near 1 for good codecs",
        cost="0.004, once for both",
    ),
    _metric(
        name="estoi",
        measure=_estoi,
        summary="intelligibility, stricter than STOI and so better spread",
        cost="0.004, once for both",
    ),
)
