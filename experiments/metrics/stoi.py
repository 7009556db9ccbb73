"""STOI (Taal et al. 2011) and extended STOI (Jensen and Taal 2016), by ``pystoi``.

Both listen at 10 kHz. The clips are brought there by the protocol's resampler, once for both.
"""

from __future__ import annotations

import functools
import warnings

import numpy as np

from experiments.metrics.contract import Metric, MetricFailure
from experiments.metrics.signals import Signal

_RATE = 10000


def _stoi(reference: Signal, reconstruction: Signal, extended: bool) -> float:
    from pystoi import stoi

    reference.require_sound()
    reconstruction.require_sound()
    # One analysis segment: 30 frames of 256 samples, half overlapping.
    reference.require_seconds(0.4)
    state = np.random.get_state()  # noqa: NPY002 - ESTOI draws from the global generator
    np.random.seed(0)  # noqa: NPY002 - so that it gives the same bits every time
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
            return float(stoi(reference.at(_RATE), reconstruction.at(_RATE), _RATE, extended=extended))
    except RuntimeWarning as error:
        raise MetricFailure("too little speech: under 0.4 s once silent frames are removed") from error
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _plain(reference: Signal, reconstruction: Signal) -> float:
    return _stoi(reference, reconstruction, extended=False)


def _extended(reference: Signal, reconstruction: Signal) -> float:
    return _stoi(reference, reconstruction, extended=True)


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
        measure=_plain,
        summary="intelligibility; saturates near 1 for good codecs",
        cost="0.005",
    ),
    _metric(
        name="estoi",
        measure=_extended,
        summary="intelligibility, stricter than STOI and so better spread",
        cost="0.010",
    ),
)
