"""Voicing and pitch agreement by torchcrepe's full model, with the settings of the papers.

10 ms hop, 50 to 550 Hz, unvoiced below a periodicity of 0.21 or a loudness of -60 dB, no padding
(CARGAN, Morrison et al. 2022; Vocos; WavTokenizer; Q2D2). Meant for a GPU: slow on a CPU.
"""

from __future__ import annotations

import functools
import importlib.metadata
import warnings

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.families.pitch import PITCH_RANGE, cents_rmse, f1
from experiments.metrics.signals import Signal

_RATE = 16000
_HOP = 160
_VOICED = 0.21
_SILENCE_DB = -60.0
_BATCH = 512


def _track(signal: Signal) -> np.ndarray:
    """Pitch in Hz and periodicity, `[2, frames]`."""

    def predict() -> np.ndarray:
        import torch
        import torchcrepe

        from codec.float32 import full_precision

        clip = torch.tensor(signal.at(_RATE))[None]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with full_precision(), warnings.catch_warnings():
            # librosa's, about the level of silence in its loudness curve.
            warnings.simplefilter("ignore")
            pitch, periodicity = torchcrepe.predict(
                clip,
                _RATE,
                _HOP,
                *PITCH_RANGE,
                "full",
                return_periodicity=True,
                batch_size=_BATCH,
                device=device,
                pad=False,
            )
            periodicity = torchcrepe.threshold.Silence(_SILENCE_DB)(periodicity, clip, _RATE, _HOP, pad=False)
        return np.stack([pitch[0].cpu().numpy(), periodicity[0].cpu().numpy()]).astype(np.float32)

    version = importlib.metadata.version("torchcrepe")
    return signal.derive(f"pitch torchcrepe-full {version}", predict, keep=True)


def _tracks(reference: Signal, reconstruction: Signal) -> tuple[np.ndarray, np.ndarray]:
    reference.require_sound()
    reference.require_seconds(0.1)
    return _track(reference), _track(reconstruction)


def _vuv_f1(reference: Signal, reconstruction: Signal) -> float:
    expected, obtained = _tracks(reference, reconstruction)
    return f1(expected[1] >= _VOICED, obtained[1] >= _VOICED)


def _pitch_rmse(reference: Signal, reconstruction: Signal) -> float:
    expected, obtained = _tracks(reference, reconstruction)
    both = (expected[1] >= _VOICED) & (obtained[1] >= _VOICED)
    return cents_rmse(expected[0][both], obtained[0][both])


def _periodicity_rmse(reference: Signal, reconstruction: Signal) -> float:
    expected, obtained = _tracks(reference, reconstruction)
    return float(np.sqrt(np.mean(np.square(expected[1] - obtained[1]))))


_metric = functools.partial(
    Metric,
    sample_rate=_RATE,
    backend="torchcrepe-full",
    distributions=("torchcrepe",),
    modules=("torchcrepe",),
    install="torchcrepe",
    licence="MIT",
    cost="12, once for the three",
)

METRICS = (
    _metric(
        name="vuv_f1_torchcrepe",
        unit="",
        higher_is_better=True,
        measure=_vuv_f1,
        summary="F1 of voiced frames as the papers compute it",
    ),
    _metric(
        name="pitch_rmse_torchcrepe",
        unit="cents",
        higher_is_better=False,
        measure=_pitch_rmse,
        summary="intonation kept, as the papers compute it",
    ),
    _metric(
        name="periodicity_rmse_torchcrepe",
        unit="",
        higher_is_better=False,
        measure=_periodicity_rmse,
        summary="voicing strength kept, as the papers compute it",
    ),
)
