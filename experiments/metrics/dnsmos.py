"""DNSMOS P.835 (OVRL, SIG, BAK) and P.808 (Reddy et al. 2021, 2022) by ``speechmos``, in one inference.

The models look at windows of 9.01 s, one a second; a shorter clip is repeated until it fills one, as in the
published code, so a clip of 4 s costs as much as one of 16 s. They hear no reference.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.signals import Signal

_RATE = 16000
_PARTS = ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")
MINIMUM_SECONDS = 0.5


@functools.cache
def _model() -> Any:
    """The backend's model on single-threaded sessions; its own constructor takes every core."""
    import onnxruntime
    from speechmos import dnsmos

    folder = Path(dnsmos.__file__).parent / "dnsmos_models"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1

    def session(name: str) -> Any:
        return onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])

    model = dnsmos.DNSMOS.__new__(dnsmos.DNSMOS)
    model.onnx_sess = session("sig_bak_ovr.onnx")
    model.p808_onnx_sess = session("model_v8.onnx")
    return model


def _scores(signal: Signal) -> np.ndarray:
    def infer() -> np.ndarray:
        signal.require_sound()
        signal.require_seconds(MINIMUM_SECONDS)
        # The backend refuses what exceeds full scale; a file of integer samples would clip it.
        scores = _model()(np.clip(signal.at(_RATE), -1, 1), _RATE, False)
        return np.array([scores[part] for part in _PARTS], dtype=np.float64)

    return signal.derive("dnsmos", infer)


def _measure(part: int, reference: Signal, reconstruction: Signal) -> float:
    return float(_scores(reconstruction)[part])


def _metric(part: int, name: str, summary: str) -> Metric:
    return Metric(
        name=name,
        unit="MOS",
        higher_is_better=True,
        sample_rate=_RATE,
        backend="speechmos",
        measure=functools.partial(_measure, part),
        summary=summary,
        distributions=("speechmos",),
        modules=("speechmos", "onnxruntime", "librosa"),
        licence="MIT",
        cost="0.1 to 0.7, once for the four",
        core=True,
        uses_reference=False,
    )


METRICS = (
    _metric(0, "dnsmos_ovrl", "does it sound clean, overall; hardly ranks good codecs"),
    _metric(1, "dnsmos_sig", "speech distortion part of DNSMOS"),
    _metric(2, "dnsmos_bak", "background noise part of DNSMOS"),
    _metric(3, "dnsmos_p808", "DNSMOS on the P.808 scale"),
)
