"""A clip with everything that metrics derive from it, each thing computed once.

Evaluation protocol v1: mono; the reference is the clip at the codec's sample rate; the reconstruction is
trimmed to its length; no loudness change; resampling by torchaudio's windowed sinc with the Kaiser window.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING

import numpy as np

from codec import resampling
from codec.resampling import Design
from experiments.metrics.failures import PROTOCOL, MetricFailure

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

RESAMPLING = {"resampling_method": "sinc_interp_kaiser", "lowpass_filter_width": 64, "rolloff": 0.99}
DESIGN = Design(lowpass_filter_width=64, rolloff=0.99)
"""Long, with a late roll-off: what a codec loses just below the band edge stays audible to the metrics."""

SILENCE = 2.0**-16
"""Peak, without any constant offset, below which a clip is silent: half a step of 16-bit audio."""

LONGEST_SECONDS = 300.0
"""A clip is an utterance: memory and time of the backends grow with its length."""

LENGTH_TOLERANCE = 0.1
"""Lengths that differ by more than this share of the reference are not the same utterance."""


class Signal:
    """One mono clip: float32 `samples` `[samples]` at `sample_rate` Hz, and a memo of what was derived.

    `stored` holds derived arrays that came from a cache; what is derived with `keep=True` is added to it.
    """

    def __init__(
        self,
        samples: np.ndarray,
        sample_rate: int,
        *,
        role: str = "signal",
        stored: MutableMapping[str, np.ndarray] | None = None,
    ) -> None:
        self.samples = samples
        self.sample_rate = sample_rate
        self.role = role
        self.stored: MutableMapping[str, np.ndarray] = {} if stored is None else stored
        self._memo: dict[str, np.ndarray] = {}

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    def at(self, sample_rate: int) -> np.ndarray:
        """The samples at another rate, float32."""
        if sample_rate == self.sample_rate:
            return self.samples
        return self.derive(
            f"samples at {sample_rate} Hz", lambda: resample(self.samples, self.sample_rate, sample_rate)
        )

    def derive(self, key: str, make: Callable[[], np.ndarray], *, keep: bool = False) -> np.ndarray:
        """Result of `make`, computed once for each `key`; `keep` marks what is worth a disk cache.

        A kept key names the backend's version, so that a cache never outlives it.
        """
        if key in self._memo:
            return self._memo[key]
        if keep and key in self.stored:
            value = self.stored[key]
        else:
            value = make()
            if keep:
                self.stored[key] = value
        self._memo[key] = value
        return value

    def require_sound(self) -> None:
        """Raise `MetricFailure` where the clip is silent, or constant."""
        if self.derive("peak", lambda: np.asarray(_peak(self.samples))) < SILENCE:
            raise MetricFailure(f"silent {self.role}")

    def require_seconds(self, seconds: float) -> None:
        """Raise `MetricFailure` where the clip is shorter."""
        if self.seconds < seconds:
            raise MetricFailure(f"too short: {self.seconds:.2f} s, needs {seconds:g} s")


def _peak(samples: np.ndarray) -> float:
    return float(np.max(np.abs(samples - samples.mean(dtype=np.float64))))


def prepare_pair(
    reference: np.ndarray, reconstruction: np.ndarray, sample_rate: int
) -> tuple[Signal, Signal]:
    """Check two clips `[samples]` and bring them to one length as the protocol says.

    Raises `MetricFailure` for what no metric can score: empty, not mono, not finite, too long, lengths that
    differ by more than a tenth, or a sample rate that no recording has.
    """
    if problem := resampling.rate_problem(sample_rate):
        raise MetricFailure(problem)
    reference = _checked(reference, "reference")
    reconstruction = _checked(reconstruction, "reconstruction")
    if abs(len(reference) - len(reconstruction)) > LENGTH_TOLERANCE * len(reference):
        raise MetricFailure(
            f"lengths differ: reference {len(reference) / sample_rate:.2f} s, "
            f"reconstruction {len(reconstruction) / sample_rate:.2f} s"
        )
    length = min(len(reference), len(reconstruction))
    if length > LONGEST_SECONDS * sample_rate:
        raise MetricFailure(too_long(length / sample_rate))
    return (
        Signal(reference[:length], sample_rate, role="reference"),
        Signal(reconstruction[:length], sample_rate, role="reconstruction"),
    )


def too_long(seconds: float) -> str:
    """The reason for which a clip longer than `LONGEST_SECONDS` has no score."""
    return f"too long: {seconds:.0f} s, at most {LONGEST_SECONDS:g} s; cut it into utterances"


def _checked(samples: np.ndarray, role: str) -> np.ndarray:
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise MetricFailure(f"{role} is not mono: shape {samples.shape}")
    if samples.size == 0:
        raise MetricFailure(f"empty {role}")
    if not np.issubdtype(samples.dtype, np.floating):
        raise MetricFailure(f"{role} is not floating point: {samples.dtype}")
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    finite = np.isfinite(samples)
    if not finite.all():
        raise MetricFailure(
            f"{role} is not finite: {samples.size - int(finite.sum())} of {samples.size} samples"
        )
    return samples


def content_key(samples: np.ndarray, sample_rate: int) -> str:
    """Name of a clip by its content, for caches."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{PROTOCOL} {RESAMPLING} {sample_rate} {samples.dtype.str} ".encode())
    digest.update(np.ascontiguousarray(samples).tobytes())
    return digest.hexdigest()


@functools.lru_cache(maxsize=16)
def _resampler(source: int, target: int) -> Resample:
    return resampling.transform(source, target, DESIGN, double=False)


def resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    """Bring `[samples]` from `source` to `target` Hz as the protocol says; float32."""
    import torch

    if source == target:
        return samples
    if resampling.kernel_size(source, target, DESIGN) > resampling.KERNEL_LIMIT:
        return resampling.resample(samples, source, target, DESIGN).astype(np.float32)
    with torch.no_grad():
        # A copy: memory-mapped clips are read-only, which torch warns about.
        return np.asarray(_resampler(source, target)(torch.tensor(samples, dtype=torch.float32)).numpy())
