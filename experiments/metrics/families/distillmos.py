"""DistillMOS (Stahl and Gamper 2025): a MOS without reference, distilled from XLS-R; weights in the wheel."""

from __future__ import annotations

import contextlib
import functools
import io
from typing import Any

from experiments.metrics.contract import Metric
from experiments.metrics.signals import Signal

_RATE = 16000


@functools.cache
def _model() -> Any:
    from distillmos import ConvTransformerSQAModel

    # It prints where its weights are.
    with contextlib.redirect_stdout(io.StringIO()):
        return ConvTransformerSQAModel().eval()


def _distillmos(reference: Signal, reconstruction: Signal) -> float:
    import torch

    reconstruction.require_sound()
    reconstruction.require_seconds(0.5)
    with torch.no_grad():
        return float(_model()(torch.tensor(reconstruction.at(_RATE))[None]))


METRICS = (
    Metric(
        name="distillmos",
        unit="MOS",
        higher_is_better=True,
        sample_rate=_RATE,
        backend="distillmos",
        measure=_distillmos,
        summary="naturalness without reference; hardly ranks good codecs",
        distributions=("distillmos",),
        modules=("distillmos",),
        install="distillmos",
        licence="MIT",
        cost="0.07 to 0.3",
        uses_reference=False,
    ),
)
