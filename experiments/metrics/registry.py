"""Names of the metrics, and the module of `families/` in which each lives. A new metric is a module there,
and its names here."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import NamedTuple

from experiments.metrics.contract import Metric
from experiments.metrics.failures import MetricUnavailable
from quantizers.suggestions import did_you_mean

STANDARD = ("pesq", "stoi", "mel_distance", "dnsmos_ovrl")  # what a study scores unless it says otherwise

_FAMILIES: dict[str, tuple[str, ...]] = {
    "pesq": ("pesq", "pesq_nb"),
    "stoi": ("stoi", "estoi"),
    "spectral": ("mel_distance", "stft_distance", "log_spectral_distance"),
    "si_sdr": ("si_sdr", "delay"),
    "pitch": ("vuv_f1", "pitch_rmse", "periodicity_rmse"),
    "dnsmos": ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808"),
    "plcmos": ("plcmos",),
    "distillmos": ("distillmos",),
    "utmos": ("utmos",),
    "visqol": ("visqol",),
    "speaker": ("speaker_cosine",),
    "transcription": ("wer", "cer"),
    "pitch_torchcrepe": ("vuv_f1_torchcrepe", "pitch_rmse_torchcrepe", "periodicity_rmse_torchcrepe"),
}
_MODULE_OF = {name: module for module, names in _FAMILIES.items() for name in names}


class Facts(NamedTuple):
    """Unit of a metric, empty without one, and its direction."""

    unit: str
    higher_is_better: bool | None  # None: neither way is better


def available() -> tuple[str, ...]:
    """Names of all metrics that codecbench knows, in the order in which tables show them."""
    return tuple(_MODULE_OF)


def core() -> tuple[str, ...]:
    """Names of the metrics in the default set, all of which run with what codecbench depends on."""
    return tuple(name for name in _MODULE_OF if get(name).core)


@functools.cache
def get(name: str) -> Metric:
    """The metric of that name. Raises `MetricUnavailable` (a `ValueError`) for an unknown name.

    Examples:
        >>> pesq = get("pesq")
        >>> pesq.unit, pesq.higher_is_better, pesq.sample_rate
        ('MOS-LQO', True, 16000)
    """
    if name not in _MODULE_OF:
        hint = did_you_mean(name, _MODULE_OF)
        raise MetricUnavailable(f"unknown metric {name!r}; {hint}known: {', '.join(_MODULE_OF)}")
    module = importlib.import_module(f"experiments.metrics.families.{_MODULE_OF[name]}")
    return next(metric for metric in module.METRICS if metric.name == name)


@functools.cache
def facts() -> Mapping[str, Facts]:
    """Unit and direction of every metric, by name, in the order of `available`. Imports no backend."""
    return {name: Facts(get(name).unit, get(name).higher_is_better) for name in available()}
