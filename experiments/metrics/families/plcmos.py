"""PLCMOS v2 (Diener et al. 2023), by `speechmos`: how well lost packets are concealed.

The model averages over 15 listeners drawn at random, so it is not deterministic in itself: another draw moves
the score by about 0.03. Here the draw is always the same.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.signals import Signal

_RATE = 16000


@functools.cache
def _model() -> Any:
    import onnxruntime
    from speechmos import plcmos

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = plcmos.PLCMOS()
    model.session = onnxruntime.InferenceSession(
        model.model_path, options, providers=["CPUExecutionProvider"]
    )
    return model


def _plcmos(reference: Signal, reconstruction: Signal) -> float:
    reconstruction.require_sound()
    reconstruction.require_seconds(0.5)
    clip = np.clip(reconstruction.at(_RATE), -1, 1)
    state = np.random.get_state()  # noqa: NPY002 - the backend draws from the global generator
    np.random.seed(0)  # noqa: NPY002
    try:
        score = _model().get_mos(clip, _RATE)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return float(score["plcmos"] if isinstance(score, dict) else score)


METRICS = (
    Metric(
        name="plcmos",
        unit="MOS",
        higher_is_better=True,
        sample_rate=_RATE,
        backend="speechmos",
        measure=_plcmos,
        summary="packet-loss concealment; averages over listeners drawn at random",
        distributions=("speechmos",),
        modules=("speechmos", "onnxruntime"),
        licence="MIT",
        cost="0.05",
        deterministic=False,
        uses_reference=False,
    ),
)
