"""Distances between spectrograms, at the clip's own rate: the only core metrics that hear above 8 kHz.

Windows are fixed in milliseconds, magnitudes are relative to a full-scale sine, logarithms are natural
(1 Np = 8.686 dB) and floored at -100 dB, so that digital silence does not decide the value.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.signals import Signal

if TYPE_CHECKING:
    import torch

SCALES = ((8, 16), (16, 32), (32, 64), (64, 128))
"""(window in ms, mel bands): the most bands that leave none of them empty at 8 kHz and above."""

FLOOR = 1e-5


@functools.lru_cache(maxsize=32)
def _window(milliseconds: int, sample_rate: int) -> torch.Tensor:
    import torch

    window = torch.hann_window(2 * round(milliseconds * sample_rate / 2000))
    return window * (2 / window.sum())


@functools.lru_cache(maxsize=32)
def _mel_filters(bins: int, bands: int, sample_rate: int) -> torch.Tensor:
    """Triangular filters ``[bins, bands]`` of unit sum."""
    import torchaudio

    filters = torchaudio.functional.melscale_fbanks(bins, 0.0, sample_rate / 2, bands, sample_rate)
    return filters / filters.sum(0, keepdim=True)


def _magnitudes(signal: Signal, milliseconds: int) -> torch.Tensor:
    """STFT magnitudes ``[bins, frames]``, hop a quarter of the window, no padding."""
    import torch

    window = _window(milliseconds, signal.sample_rate)
    samples = torch.tensor(signal.samples)
    length = len(window)
    return torch.stft(samples, length, length // 4, window=window, center=False, return_complex=True).abs()


def _log_mel(signal: Signal, milliseconds: int, bands: int) -> np.ndarray:
    magnitudes = _magnitudes(signal, milliseconds)
    filters = _mel_filters(len(magnitudes), bands, signal.sample_rate)
    return np.asarray((filters.T @ magnitudes).clamp_min(FLOOR).log().numpy())


def _mel_distance(reference: Signal, reconstruction: Signal) -> float:
    reference.require_seconds(SCALES[-1][0] / 1000)
    distances = [
        np.abs(_log_mel(reference, *scale) - _log_mel(reconstruction, *scale)).mean(dtype=np.float64)
        for scale in SCALES
    ]
    return float(np.mean(distances))


METRICS = (
    Metric(
        name="mel_distance",
        unit="Np",
        higher_is_better=False,
        sample_rate=None,
        backend="codecbench",
        measure=_mel_distance,
        summary="multi-scale log-mel L1 over the full band; close to what codecs are trained on",
        distributions=("codecbench",),
        modules=("torchaudio",),
        licence="Apache-2.0",
        cost="0.003",
        core=True,
    ),
)
