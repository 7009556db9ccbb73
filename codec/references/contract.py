"""The contract of reference codecs: reconstruct a clip, state the bits spent."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from codec import resampling

DESIGN = resampling.Design(lowpass_filter_width=64, rolloff=0.99)


class ReferenceCodecError(ValueError):
    """A reference codec was asked for wrongly; the message says what to change."""


class ReferenceUnavailable(ReferenceCodecError):
    """A reference codec cannot run here: something is missing; the message says how to get it."""


class Decoded(NamedTuple):
    """audio: float32 [samples], as long as the input and at its rate. bits: of the payload, None if none."""

    audio: np.ndarray
    bits: int | None


class Rates(NamedTuple):
    """Frames and tokens per second (Hz), token streams, bits per frame; None where a codec has none."""

    frame_rate: float | None = None
    token_rate: float | None = None
    streams: int | None = None
    bits_per_frame: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reference(ABC):
    """A codec from outside, or a control. Its fields are its options.

    summary: one line for lists. main_option: the option that `NAME:VALUE` sets.
    """

    summary: ClassVar[str] = ""
    main_option: ClassVar[str] = ""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of its row: a rate at the end (`opus 12 kbit/s`) makes it a point of a curve."""

    @property
    def sample_rate(self) -> int | None:
        """Rate in Hz that the codec works at, or None: the rate of what it is given."""
        return None

    @property
    def rates(self) -> Rates:
        """Rates that follow from the codec itself; the bitrate is measured. May need `prepare`."""
        return Rates()

    @property
    def version(self) -> str:
        """What, beside the options, decides the result: a library's version, or which weights."""
        return "1"

    def prepare(self) -> None:
        """Load what the codec needs. Raises ReferenceUnavailable."""
        return

    @abstractmethod
    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        """`audio` float32 [samples] at `sample_rate` Hz, encoded and decoded. Raises ReferenceUnavailable."""


def resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """`audio` [samples] from `source` to `target` Hz by a Kaiser-windowed sinc, float32."""
    if source == target or not len(audio):
        return np.asarray(audio, dtype=np.float32)
    if resampling.kernel_size(source, target, DESIGN) > resampling.KERNEL_LIMIT:
        return resampling.resample(audio, source, target, DESIGN).astype(np.float32)
    import torch
    from torchaudio.functional import resample as sinc

    signal = torch.tensor(audio, dtype=torch.float32)
    made = sinc(signal, source, target, lowpass_filter_width=64, resampling_method="sinc_interp_kaiser")
    return np.asarray(made.numpy())


def fit(audio: np.ndarray, samples: int) -> np.ndarray:
    """`audio` cut, or padded with zeros, to `samples`; float32."""
    audio = np.asarray(audio, dtype=np.float32)[:samples]
    return np.pad(audio, (0, samples - len(audio)))


def kilobits(bits_per_second: float) -> str:
    """`12 kbit/s`."""
    return f"{bits_per_second / 1000:g} kbit/s"
