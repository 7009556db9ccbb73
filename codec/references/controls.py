"""Controls: rows whose place in a table is known beforehand."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codec.references.contract import Decoded, Rates, Reference, ReferenceCodecError, fit, resample


@dataclass(frozen=True, kw_only=True)
class GroundTruth(Reference):
    """The recording itself: what each metric says of perfect reconstruction."""

    summary: ClassVar[str] = "the recording itself: the ceiling of every metric"

    @property
    def label(self) -> str:
        return "ground-truth"

    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        return Decoded(np.array(audio, dtype=np.float32), None)


@dataclass(frozen=True, kw_only=True)
class Resample(Reference):
    """To `rate` Hz and back: what bandwidth alone costs. Changes nothing at `rate` or below."""

    summary: ClassVar[str] = "resampled to 16 kHz (option rate) and back: what bandwidth alone costs"
    main_option: ClassVar[str] = "rate"

    rate: int = 16_000

    def __post_init__(self) -> None:
        if not isinstance(self.rate, int) or not 1000 <= self.rate <= 192_000:
            raise ReferenceCodecError(
                f"resample: rate {self.rate!r} is not a sample rate from 1000 to 192000 Hz"
            )

    @property
    def label(self) -> str:
        return f"resample {self.rate / 1000:g} kHz"

    @property
    def sample_rate(self) -> int:
        return self.rate

    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        if sample_rate <= self.rate:
            return Decoded(np.array(audio, dtype=np.float32), None)
        narrow = resample(audio, sample_rate, self.rate)
        return Decoded(fit(resample(narrow, self.rate, sample_rate), len(audio)), None)


@dataclass(frozen=True, kw_only=True)
class PCM(Reference):
    """Uniform samples of `bits` bits, without dither."""

    summary: ClassVar[str] = "uniform samples of n bits (option bits)"
    main_option: ClassVar[str] = "bits"

    bits: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 24:
            raise ReferenceCodecError(f"pcm: bits {self.bits!r} is not within 2 to 24")

    @property
    def label(self) -> str:
        return f"pcm {self.bits} bit"

    @property
    def rates(self) -> Rates:
        return Rates(streams=1, bits_per_frame=self.bits)

    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        steps = 2 ** (self.bits - 1)
        rounded = np.clip(np.round(np.asarray(audio, dtype=np.float64) * steps), -steps, steps - 1)
        return Decoded((rounded / steps).astype(np.float32), len(audio) * self.bits)
