"""Known values of every metric on signals that need no file, to tell a broken or changed backend.

The signals come from integer hashes and sines, so they are the same on every machine and numpy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.metrics.failures import MetricFailure, MetricUnavailable
from experiments.metrics.registry import available, get
from experiments.metrics.signals import prepare_pair

RATE = 24000


@dataclass(frozen=True)
class Golden:
    """`metric` on the pair of signals called `pair` gives `expected` within `tolerance`."""

    metric: str
    pair: str
    expected: float
    tolerance: float


@dataclass(frozen=True)
class Check:
    """Outcome for one golden value; `skipped` where the metric cannot run here, with the reason."""

    metric: str
    pair: str
    expected: float
    tolerance: float
    obtained: float | None
    backend: str
    reason: str = ""
    skipped: bool = False

    @property
    def ok(self) -> bool:
        return self.obtained is not None and abs(self.obtained - self.expected) <= self.tolerance


def noise(samples: int, seed: int) -> np.ndarray:
    """White noise `[samples]`, uniform in -1 to 1, by the splitmix64 hash of the sample's number."""
    with np.errstate(over="ignore"):
        x = (np.arange(samples, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def utterance(seconds: float = 5.0, rate: int = RATE) -> np.ndarray:
    """Something that speech metrics take for speech `[samples]`: voiced syllables, hiss, and pauses."""
    time = np.arange(int(seconds * rate)) / rate
    pitch = 130 + 35 * np.sin(2 * np.pi * 0.7 * time) - 10 * time
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    first, second = (
        550 + 250 * np.sin(2 * np.pi * 1.1 * time),
        1500 + 600 * np.sin(2 * np.pi * 0.8 * time + 1),
    )
    voiced = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch
        formants = sum(
            gain / (1 + ((frequency - centre) / width) ** 2)
            for gain, centre, width in ((1.0, first, 90.0), (0.6, second, 130.0), (0.3, 2700.0, 200.0))
        )
        voiced += (formants + 0.01) * np.sin(harmonic * phase)
    syllable = np.clip(1.6 * np.sin(2 * np.pi * 2.1 * time), 0, 1)
    hiss = np.clip(1.6 * np.sin(2 * np.pi * 2.1 * time + 2.6) - 0.9, 0, 1)
    phrase = (np.sin(2 * np.pi * 0.45 * time + 0.4) > -0.8).astype(np.float64)
    clip = phrase * (0.12 * syllable * voiced + 0.05 * hiss * noise(len(time), 1)) + 3e-4 * noise(
        len(time), 2
    )
    return clip.astype(np.float32)


@functools.cache
def pair(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Reference, reconstruction (both `[samples]`) and rate in Hz of a named pair."""
    if name.startswith("randn"):
        import torch

        # As in the docstrings of torchmetrics: predictions are drawn first.
        generator = torch.Generator().manual_seed(1)
        degraded, target = torch.randn(8000, generator=generator), torch.randn(8000, generator=generator)
        return target.numpy(), degraded.numpy(), 16000 if name.endswith("16k") else 8000
    clip = utterance()
    if name == "identical":
        return clip, clip, RATE
    if name == "noisy":
        return clip, clip + np.float32(0.02) * noise(len(clip), 3).astype(np.float32), RATE
    if name == "coarse, first second":
        reference, reconstruction, _ = pair("coarse")
        return reference[:RATE], reconstruction[:RATE], RATE
    if name == "coarse":
        # 4-bit mu-law, 7 samples late.
        steps = np.rint(8 * np.sign(clip) * np.log1p(255 * np.abs(clip)) / np.log(256)) / 8
        decoded = np.sign(steps) * np.expm1(np.abs(steps) * np.log(256)) / 255
        return clip, np.roll(decoded, 7).astype(np.float32), RATE
    raise ValueError(f"no pair of signals called {name!r}")


# Tolerance, and values by pair, as given by pesq 0.0.4, pystoi 0.4.1, swift-f0 0.3.0, speechmos 0.0.1.1,
# distillmos 0.9.1, visqol-python 3.8.0, resemblyzer 0.1.4, faster-whisper 1.2.1 and torchcrepe 0.0.24.
_OBTAINED: dict[str, tuple[float, dict[str, float]]] = {
    "pesq": (0.005, {"identical": 4.64389, "noisy": 1.36403, "coarse": 1.18110}),
    "pesq_nb": (0.005, {"identical": 4.54864, "noisy": 2.55906, "coarse": 2.99172}),
    "stoi": (1e-3, {"identical": 1.0, "noisy": 0.98325, "coarse": 0.95484}),
    "estoi": (1e-3, {"identical": 1.0, "noisy": 0.90960, "coarse": 0.70854}),
    "mel_distance": (1e-3, {"identical": 0.0, "noisy": 2.13594, "coarse": 1.01964}),
    "stft_distance": (1e-3, {"identical": 0.0, "noisy": 2.83285, "coarse": 1.82692}),
    "log_spectral_distance": (0.01, {"identical": 0.0, "noisy": 25.82965, "coarse": 16.52753}),
    "si_sdr": (0.01, {"identical": 100.0, "noisy": 16.47769, "coarse": 14.00486}),
    "delay": (1e-9, {"identical": 0.0, "noisy": 0.0, "coarse": 7000 / RATE}),
    "vuv_f1": (0.01, {"identical": 1.0, "noisy": 0.98425, "coarse": 0.97189}),
    "pitch_rmse": (0.5, {"identical": 0.0, "noisy": 4.79362, "coarse": 6.14168}),
    "periodicity_rmse": (0.01, {"identical": 0.0, "noisy": 0.10750, "coarse": 0.11958}),
    "dnsmos_ovrl": (0.02, {"noisy": 2.18674, "coarse": 2.29591}),
    "dnsmos_sig": (0.02, {"noisy": 3.34952, "coarse": 2.96000}),
    "dnsmos_bak": (0.02, {"noisy": 2.23488, "coarse": 3.01067}),
    "dnsmos_p808": (0.02, {"noisy": 2.61359, "coarse": 2.57632}),
    "distillmos": (0.02, {"noisy": 2.72951, "coarse": 1.79408}),
    "visqol": (0.02, {"noisy": 1.45330, "coarse": 1.43649}),
    "speaker_cosine": (5e-3, {"identical": 1.0, "noisy": 0.82908, "coarse": 0.85256}),
    "wer": (0.0, {"identical": 0.0}),
    "cer": (0.0, {"identical": 0.0}),
    "vuv_f1_torchcrepe": (0.03, {"coarse, first second": 0.96471}),
    "pitch_rmse_torchcrepe": (2.0, {"coarse, first second": 11.49695}),
    "periodicity_rmse_torchcrepe": (0.01, {"coarse, first second": 0.08635}),
}

# Published in the docstring of torchmetrics' perceptual_evaluation_speech_quality.
_PUBLISHED = (
    Golden("pesq", "randn at 16k", 1.7359, 5e-5),
    Golden("pesq_nb", "randn at 8k", 2.2076, 5e-5),
)

GOLDENS = _PUBLISHED + tuple(
    Golden(metric, name, expected, tolerance)
    for metric, (tolerance, values) in _OBTAINED.items()
    for name, expected in values.items()
)


def check(metric_names: Sequence[str] | None = None) -> Iterator[Check]:
    """Compare each golden value of the named metrics (default: all) with what this machine obtains."""
    names = available() if metric_names is None else metric_names
    # One pair of signals for all metrics: a family shares its inference.
    signals = functools.cache(lambda name: prepare_pair(*pair(name)))
    for name in names:
        metric = get(name)
        goldens = [golden for golden in GOLDENS if golden.metric == name]
        if not goldens:
            reason = f"metric {name!r} has no known value here"
            yield Check(name, "", math.nan, math.nan, None, metric.backend, reason, skipped=True)
        for golden in goldens:
            common = (name, golden.pair, golden.expected, golden.tolerance)
            try:
                metric.require()
                yield Check(*common, metric.evaluate(*signals(golden.pair)), metric.version())
            except MetricUnavailable as error:
                yield Check(*common, None, metric.backend, str(error), skipped=True)
            except MetricFailure as error:
                yield Check(*common, None, metric.version(), str(error))
