"""Opus (RFC 6716) through libsndfile."""

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codec.references.contract import (
    Decoded,
    Reference,
    ReferenceCodecError,
    fit,
    kilobits,
    resample,
)
from codec.references.ogg import opus_payload_bits

# libsndfile maps its compression level, 1 to 0, linearly to these bit/s of one channel.
LOWEST, HIGHEST = 6_000, 256_000
SAMPLE_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)


@dataclass(frozen=True, kw_only=True)
class Opus(Reference):
    """Opus at a target bitrate in bit/s, variable (libsndfile offers no other mode), 20 ms frames.

    The measured bitrate counts the audio packets alone, not the Ogg pages around them.
    """

    summary: ClassVar[str] = "Opus through libsndfile, 6 to 256 kbit/s"
    main_option: ClassVar[str] = "bitrate"

    bitrate: int = 12_000

    def __post_init__(self) -> None:
        if not isinstance(self.bitrate, int | float) or not LOWEST <= self.bitrate <= HIGHEST:
            raise ReferenceCodecError(
                f"opus: bitrate {self.bitrate!r} is not within {LOWEST} to {HIGHEST} bit/s, Opus' range"
            )

    @property
    def label(self) -> str:
        return f"opus {kilobits(self.bitrate)}"

    @property
    def version(self) -> str:
        import soundfile

        return f"libsndfile {soundfile.__libsndfile_version__}"

    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        import soundfile

        rate = sample_rate if sample_rate in SAMPLE_RATES else SAMPLE_RATES[-1]
        if not len(audio):
            return Decoded(np.zeros(0, np.float32), 0)
        stream = io.BytesIO()
        soundfile.write(
            stream,
            np.clip(resample(audio, sample_rate, rate), -1, 1),
            rate,
            format="OGG",
            subtype="OPUS",
            compression_level=1 - (self.bitrate - LOWEST) / (HIGHEST - LOWEST),
        )
        bits = opus_payload_bits(stream.getvalue())
        stream.seek(0)
        decoded, decoded_rate = soundfile.read(stream, dtype="float32")
        return Decoded(fit(resample(decoded, decoded_rate, sample_rate), len(audio)), bits)
