"""DNSMOS P.835 (OVRL, SIG, BAK) and P.808 (Reddy et al. 2021, 2022), by `speechmos`: no reference.

The models look at windows of 9.01 s, one per second; a shorter clip is doubled until it fills one, as in the
published code, so a clip of 4 s (seven windows) costs seven times one of 5 s (one window). The windows are
cut here, to run only the model that is asked for: P.808's features take seconds of imports.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.signals import Signal

_RATE = 16000
_WINDOW = int(9.01 * _RATE)
MINIMUM_SECONDS = 0.5


@functools.cache
def _session(model: str) -> Any:
    """One thread; the backend's own sessions take every core."""
    import onnxruntime
    from speechmos import dnsmos

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(dnsmos.__file__).parent / "dnsmos_models" / model
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@functools.cache
def _backend() -> Any:
    """The backend's mapping of raw outputs and its features, without its sessions."""
    from speechmos import dnsmos

    return dnsmos.DNSMOS.__new__(dnsmos.DNSMOS)


def windows(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Windows of 9.01 s `[144160]` of a clip `[samples]` at 16 kHz, as published.

    That includes a slip: ends are rounded down from floating point, and windows that come out a sample short
    are left out, those that start at 7 to 23 s, so the first 16 s decide for most clips.
    """
    while len(samples) < _WINDOW:
        samples = np.append(samples, samples)
    for second in range(int(len(samples) // _RATE - 9.01) + 1):
        window = samples[second * _RATE : int((second + 9.01) * _RATE)]
        if len(window) == _WINDOW:
            yield window


def _p835(window: np.ndarray) -> tuple[float, ...]:
    """(SIG, BAK, OVRL)."""
    raw = _session("sig_bak_ovr.onnx").run(None, {"input_1": window[None]})[0][0]
    return tuple(_backend().get_polyfit_val(*raw, False))


def _p808(window: np.ndarray) -> tuple[float, ...]:
    features = _backend().audio_melspec(window[:-160]).astype(np.float32)[None]
    return (float(_session("model_v8.onnx").run(None, {"input_1": features})[0][0][0]),)


def _measure(
    model: Callable[[np.ndarray], tuple[float, ...]], part: int, reference: Signal, reconstruction: Signal
) -> float:
    def infer() -> np.ndarray:
        reconstruction.require_sound()
        reconstruction.require_seconds(MINIMUM_SECONDS)
        # The backend refuses what exceeds full scale; a file of integer samples would clip it.
        clip = np.clip(reconstruction.at(_RATE), -1, 1)
        return np.mean([model(window) for window in windows(clip)], axis=0)

    return float(reconstruction.derive(f"dnsmos {model.__name__}", infer)[part])


def _metric(
    name: str, model: Callable[[np.ndarray], tuple[float, ...]], part: int, cost: str, summary: str
) -> Metric:
    return Metric(
        name=name,
        unit="MOS",
        higher_is_better=True,
        sample_rate=_RATE,
        backend="speechmos",
        measure=functools.partial(_measure, model, part),
        summary=summary,
        distributions=("speechmos",),
        modules=("speechmos", "onnxruntime", "librosa"),
        licence="MIT",
        cost=cost,
        core=True,
        uses_reference=False,
    )


_SHARED = "0.1 to 0.7, once for the three"

METRICS = (
    _metric("dnsmos_ovrl", _p835, 2, _SHARED, "does it sound clean, overall; hardly ranks good codecs"),
    _metric("dnsmos_sig", _p835, 0, _SHARED, "speech distortion part of DNSMOS"),
    _metric("dnsmos_bak", _p835, 1, _SHARED, "background noise part of DNSMOS"),
    _metric("dnsmos_p808", _p808, 0, "0.01 to 0.05", "DNSMOS on the P.808 scale"),
)
