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
_LSD_WINDOW = 32


@functools.lru_cache(maxsize=32)
def _window(milliseconds: int, sample_rate: int) -> torch.Tensor:
    import torch

    window = torch.hann_window(2 * round(milliseconds * sample_rate / 2000))
    return window * (2 / window.sum())


@functools.lru_cache(maxsize=32)
def _mel_filters(bins: int, bands: int, sample_rate: int) -> torch.Tensor:
    """Triangular filters `[bins, bands]` of unit sum."""
    import torchaudio

    filters = torchaudio.functional.melscale_fbanks(bins, 0.0, sample_rate / 2, bands, sample_rate)
    return filters / filters.sum(0, keepdim=True)


def _magnitudes(signal: Signal, milliseconds: int) -> torch.Tensor:
    """STFT magnitudes `[bins, frames]`, hop a quarter of the window, no padding."""
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


def _stft_distance(reference: Signal, reconstruction: Signal) -> float:
    """Spectral convergence plus log-magnitude L1, mean over windows (Yamamoto et al. 2020, eqs. 4 to 6)."""
    reference.require_sound()
    reference.require_seconds(SCALES[-1][0] / 1000)
    distances = []
    for milliseconds, _ in SCALES:
        x, y = _magnitudes(reference, milliseconds), _magnitudes(reconstruction, milliseconds)
        convergence = (x - y).norm() / x.norm()
        difference = (x.clamp_min(FLOOR).log() - y.clamp_min(FLOOR).log()).abs().mean()
        distances.append(float(convergence + difference))
    return float(np.mean(distances))


def _log_spectral_distance(reference: Signal, reconstruction: Signal) -> float:
    """Root mean square over bins, mean over frames, of the difference in dB (Gray and Markel 1976)."""
    reference.require_seconds(_LSD_WINDOW / 1000)
    x, y = _magnitudes(reference, _LSD_WINDOW), _magnitudes(reconstruction, _LSD_WINDOW)
    difference = 20 * (x.clamp_min(FLOOR).log10() - y.clamp_min(FLOOR).log10())
    return float(difference.square().mean(0).sqrt().mean())


METRICS = (
    Metric(
        name="mel_distance",
        unit="Np",
        higher_is_better=False,
        sample_rate=None,
        backend="codecbench",
        measure=_mel_distance,
        summary="multi-scale log-mel L1 over the full band; close to what codecs are trained on",
        modules=("torchaudio",),
        licence="Apache-2.0",
        cost="0.006",
        core=True,
    ),
    Metric(
        name="stft_distance",
        unit="",
        higher_is_better=False,
        sample_rate=None,
        backend="codecbench",
        measure=_stft_distance,
        summary="multi-resolution STFT distance over the full band, linear in frequency",
        modules=("torchaudio",),
        licence="Apache-2.0",
        cost="0.006",
    ),
    Metric(
        name="log_spectral_distance",
        unit="dB",
        higher_is_better=False,
        sample_rate=None,
        backend="codecbench",
        measure=_log_spectral_distance,
        summary="spectral envelope and fine structure alike; dominated by the quiet bins",
        modules=("torchaudio",),
        licence="Apache-2.0",
        cost="0.002",
    ),
)
