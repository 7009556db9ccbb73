"""Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, eq. 6) after integer delay compensation.

A codec that delays by a few samples would otherwise score as noise. The delay found is a metric of its own.
"""

from __future__ import annotations

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.failures import MetricFailure
from experiments.metrics.signals import Signal

LIMIT = 100.0
"""dB; past it the difference is within the rounding of float32 audio."""

MAX_DELAY = 0.05
"""Seconds searched each way."""


def _delay(reference: Signal, reconstruction: Signal) -> int:
    """Samples by which the reconstruction lags the reference (negative: leads), by cross-correlation."""

    def find() -> np.ndarray:
        reference.require_sound()
        reconstruction.require_sound()
        x = reference.samples - reference.samples.mean(dtype=np.float64)
        y = reconstruction.samples - reconstruction.samples.mean(dtype=np.float64)
        reach = min(int(MAX_DELAY * reference.sample_rate), len(x) - 1)
        size = 1 << int(len(x) + reach).bit_length()
        correlation = np.fft.irfft(np.fft.rfft(y, size) * np.conj(np.fft.rfft(x, size)), size)
        lags = np.arange(-reach, reach + 1)
        # A polarity flip is a scale of -1, to which the ratio is invariant.
        return np.asarray(lags[np.argmax(np.abs(correlation[lags]))])

    return int(reconstruction.derive("delay to reference", find))


def _si_sdr(reference: Signal, reconstruction: Signal) -> float:
    lag = _delay(reference, reconstruction)
    length = len(reference.samples) - abs(lag)
    x = reference.samples[max(0, -lag) :][:length].astype(np.float64)
    y = reconstruction.samples[max(0, lag) :][:length].astype(np.float64)
    x -= x.mean()
    y -= y.mean()
    energy = x @ x
    if energy == 0:
        raise MetricFailure("silent reference where the two overlap")
    target = (x @ y) / energy * x
    signal, distortion = target @ target, np.sum((y - target) ** 2)
    if distortion == 0:
        return LIMIT
    if signal == 0:
        return -LIMIT
    return float(np.clip(10 * np.log10(signal / distortion), -LIMIT, LIMIT))


def _delay_milliseconds(reference: Signal, reconstruction: Signal) -> float:
    return 1000 * _delay(reference, reconstruction) / reference.sample_rate


METRICS = (
    Metric(
        name="si_sdr",
        unit="dB",
        higher_is_better=True,
        sample_rate=None,
        backend="codecbench",
        measure=_si_sdr,
        summary="waveform match after delay compensation; says little about vocoder-style decoders",
        licence="Apache-2.0",
        cost="0.003",
        core=True,
    ),
    Metric(
        name="delay",
        unit="ms",
        higher_is_better=None,
        sample_rate=None,
        backend="codecbench",
        measure=_delay_milliseconds,
        summary="lag of the reconstruction that si_sdr compensates; a diagnosis, not a quality",
        licence="Apache-2.0",
        cost="0.003",
    ),
)
