"""ViSQOL v3 in speech mode (Chinen et al. 2020), by the pure Python port `visqol-python`.

With its lattice mapper only: the polynomial that it falls back to scores a point or two higher.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.signals import Signal

_RATE = 16000


@functools.cache
def _api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


def _visqol(reference: Signal, reconstruction: Signal) -> float:
    reference.require_sound()
    reconstruction.require_sound()
    reference.require_seconds(0.5)
    clips = (signal.at(_RATE).astype(np.float64) for signal in (reference, reconstruction))
    return float(_api().measure_from_arrays(*clips, _RATE).moslqo)


METRICS = (
    Metric(
        name="visqol",
        unit="MOS-LQO",
        higher_is_better=True,
        sample_rate=_RATE,
        backend="visqol-python",
        measure=_visqol,
        summary="quality against the reference, gentler on vocoders than PESQ",
        distributions=("visqol-python",),
        modules=("visqol", "ai_edge_litert"),
        install="'visqol-python[lattice]'",
        licence="Apache-2.0",
        cost="0.04",
    ),
)
