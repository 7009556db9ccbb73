"""Cosine of speaker embeddings: GE2E d-vectors (Wan et al. 2018) by `resemblyzer`, weights in the wheel."""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from typing import Any

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.failures import MetricFailure
from experiments.metrics.signals import Signal

_RATE = 16000


@functools.cache
def _encoder() -> Any:
    with warnings.catch_warnings():
        # Names of scipy and setuptools that are on their way out.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        from resemblyzer import VoiceEncoder
    return VoiceEncoder("cpu", verbose=False)


def _embedding(signal: Signal) -> np.ndarray:
    """Unit vector `[256]`."""

    def embed() -> np.ndarray:
        signal.require_sound()
        encoder = _encoder()
        from resemblyzer import preprocess_wav

        clip = preprocess_wav(signal.at(_RATE))
        if len(clip) < 0.3 * _RATE:
            raise MetricFailure(f"too little speech in the {signal.role}")
        return np.asarray(encoder.embed_utterance(clip))

    return signal.derive(
        f"embedding resemblyzer {importlib.metadata.version('resemblyzer')}", embed, keep=True
    )


def _speaker_cosine(reference: Signal, reconstruction: Signal) -> float:
    return float(_embedding(reference) @ _embedding(reconstruction))


METRICS = (
    Metric(
        name="speaker_cosine",
        unit="",
        higher_is_better=True,
        sample_rate=_RATE,
        backend="resemblyzer",
        measure=_speaker_cosine,
        summary="the same voice; orders codecs by bitrate, compressed near 1",
        distributions=("resemblyzer",),
        modules=("resemblyzer", "webrtcvad"),
        # The wheels replace webrtcvad's own build, which fails beside a recent setuptools.
        install="resemblyzer && pip install --force-reinstall --no-deps webrtcvad-wheels",
        licence="Apache-2.0",
        cost="0.02",
    ),
)
