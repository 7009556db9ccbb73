"""PESQ (ITU-T P.862, P.862.2), by the ``pesq`` package.

The backend is asked to raise: its ``on_error=1`` returns -1 in place of a score, and that gets averaged.
"""

from __future__ import annotations

import functools

from experiments.metrics.contract import Metric, MetricFailure
from experiments.metrics.signals import Signal


def _pesq(reference: Signal, reconstruction: Signal, sample_rate: int, mode: str) -> float:
    import pesq

    reference.require_sound()
    # A silent reconstruction makes the backend divide by zero inside.
    reconstruction.require_sound()
    reference.require_seconds(0.25)
    try:
        return float(pesq.pesq(sample_rate, reference.at(sample_rate), reconstruction.at(sample_rate), mode))
    except pesq.NoUtterancesError as error:
        raise MetricFailure("no speech found by PESQ") from error
    except pesq.BufferTooShortError as error:
        raise MetricFailure("too short for PESQ") from error


def _wideband(reference: Signal, reconstruction: Signal) -> float:
    return _pesq(reference, reconstruction, 16000, "wb")


def _narrowband(reference: Signal, reconstruction: Signal) -> float:
    return _pesq(reference, reconstruction, 8000, "nb")


_metric = functools.partial(
    Metric,
    unit="MOS-LQO",
    higher_is_better=True,
    backend="pesq",
    distributions=("pesq",),
    modules=("pesq",),
    licence="MIT (ITU-T code: its own terms)",
    cost="0.015",
)

METRICS = (
    _metric(
        name="pesq",
        sample_rate=16000,
        measure=_wideband,
        summary="wide-band PESQ: ranks codecs by bitrate as it should; 1.0 to 4.64",
        core=True,
    ),
    _metric(
        name="pesq_nb",
        sample_rate=8000,
        measure=_narrowband,
        summary="narrow-band PESQ at 8 kHz, for telephone-band codecs; 1.0 to 4.55",
    ),
)
