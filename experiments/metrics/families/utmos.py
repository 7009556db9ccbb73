"""UTMOS22 strong learner (Saeki et al. 2022) from the torch.hub cache; nothing is ever downloaded here.

The code and weights are those of `tarepan/SpeechMOS`. Its package is called `speechmos` as DNSMOS's is,
so the model's part of it is loaded under a name of its own.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from experiments.metrics.contract import Metric
from experiments.metrics.failures import MetricUnavailable
from experiments.metrics.signals import Signal

_RATE = 16000
_CHECKPOINT = "utmos22_strong_step7459_v1.pt"
_MODULE = "_codecbench_utmos22"
FOLDER_VARIABLE = "CODECBENCH_UTMOS"


def _hub() -> Path:
    """Folder of torch.hub, or the one that the user names."""
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder)
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return (Path(os.environ.get("TORCH_HOME", cache)) / "hub").expanduser()


def _code() -> Path | None:
    found = sorted(_hub().glob("tarepan_SpeechMOS_*/speechmos/utmos22/__init__.py"))
    return found[-1] if found else None


def checkpoint() -> Path:
    """The weights. Raises `MetricUnavailable` where they, or the model's code, are not in the cache."""
    path = _hub() / "checkpoints" / _CHECKPOINT
    if not path.is_file() or _code() is None:
        raise MetricUnavailable(
            f"metric 'utmos' needs weights that are not in {_hub()}. Fetch them once, with a network: "
            "python -c \"import torch; torch.hub.load('tarepan/SpeechMOS:v1.2.0', 'utmos22_strong')\", "
            f"or copy that folder and name it in {FOLDER_VARIABLE}"
        )
    return path


@functools.cache
def _model() -> Any:
    import torch

    weights, code = checkpoint(), _code()
    assert code is not None
    spec = importlib.util.spec_from_file_location(
        _MODULE, code, submodule_search_locations=[str(code.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = package
    spec.loader.exec_module(package)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*weight_norm.*deprecated", category=FutureWarning)
        model = importlib.import_module(f"{_MODULE}.strong.model").UTMOS22Strong()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval()


def _utmos(reference: Signal, reconstruction: Signal) -> float:
    import torch

    reconstruction.require_sound()
    reconstruction.require_seconds(0.5)
    with torch.no_grad():
        return float(_model()(torch.tensor(reconstruction.at(_RATE))[None], _RATE))


METRICS = (
    Metric(
        name="utmos",
        unit="MOS",
        higher_is_better=True,
        sample_rate=_RATE,
        backend="utmos22-strong",
        measure=_utmos,
        summary="naturalness without reference, the papers' choice; your own copy of the weights",
        distributions=("torch",),
        modules=("torchaudio",),
        weights=checkpoint,
        licence="MIT",
        cost="0.4",
        uses_reference=False,
    ),
)
