"""PESQ (ITU-T P.862, P.862.2), by the `pesq` package.

The backend is asked to raise: its `on_error=1` returns -1 in place of a score, and that gets averaged.
Its C code holds 50 utterances (stretches of speech between pauses) and writes past its arrays when a clip has
more, which gives wrong numbers or a crash, so clips that could have more are refused.
"""

from __future__ import annotations

import functools

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.failures import MetricFailure
from experiments.metrics.signals import Signal


def _pesq(reference: Signal, reconstruction: Signal, sample_rate: int, mode: str) -> float:
    import pesq

    reference.require_sound()
    # A silent reconstruction makes the backend divide by zero inside.
    reconstruction.require_sound()
    reference.require_seconds(0.25)
    if reference.seconds > _ALWAYS_SAFE_SECONDS:
        _require_few_utterances(reference, sample_rate)
    try:
        return float(pesq.pesq(sample_rate, reference.at(sample_rate), reconstruction.at(sample_rate), mode))
    except pesq.NoUtterancesError as error:
        raise MetricFailure("no speech found by PESQ") from error
    except pesq.BufferTooShortError as error:
        raise MetricFailure("too short for PESQ") from error


_MAX_UTTERANCES = 49
_FRAMES_A_SECOND = 250
_JOIN_FRAMES = 50
"""Pauses up to this long do not separate utterances, and utterances shorter than this do not count."""
_ALWAYS_SAFE_SECONDS = _MAX_UTTERANCES * 2 * _JOIN_FRAMES / _FRAMES_A_SECOND


def _require_few_utterances(reference: Signal, sample_rate: int) -> None:
    count = int(reference.derive("utterances", lambda: np.asarray(most_utterances(reference, sample_rate))))
    if count > _MAX_UTTERANCES:
        raise MetricFailure(f"too long: up to {count} stretches of speech, PESQ takes {_MAX_UTTERANCES}")


def most_utterances(signal: Signal, sample_rate: int) -> int:
    """Upper bound of the number of utterances that PESQ's voice activity detector can find.

    Its threshold adapts to the clip, so every threshold over the 40 dB that it can reach is tried.
    """
    frame = sample_rate // _FRAMES_A_SECOND
    samples = signal.at(sample_rate).astype(np.float64)
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    level = 10 * np.log10(np.square(frames).mean(1) + 1e-12)
    return max(_utterances(level > threshold) for threshold in level.max() - np.arange(1.0, 41.0))


def _utterances(active: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    bursts = ends - starts > 4
    starts, ends = starts[bursts], ends[bursts]
    pauses = starts[1:] - ends[:-1] > _JOIN_FRAMES
    starts, ends = np.append(starts[:1], starts[1:][pauses]), np.append(ends[:-1][pauses], ends[-1:])
    # The detector widens each by up to two frames at each end.
    return int((ends - starts >= _JOIN_FRAMES - 4).sum())


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
