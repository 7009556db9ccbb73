"""Codec 2, through its programs `c2enc` and `c2dec`."""

import shutil
import subprocess
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codec.references.contract import (
    Decoded,
    Reference,
    ReferenceCodecError,
    ReferenceUnavailable,
    fit,
    kilobits,
    resample,
)

MODES = ("3200", "2400", "1600", "1400", "1300", "1200", "700C")
RATE = 8_000
FRAME = 320  # samples of the longest frame: the programs drop what does not fill one


@dataclass(frozen=True, kw_only=True)
class Codec2(Reference):
    """Codec 2 at 8 kHz; `mode` is its bitrate in bit/s, such as 3200 or 700C.

    Bits are those of its frames; the program fills each up to whole bytes.
    """

    summary: ClassVar[str] = "Codec 2 (8 kHz, 0.7 to 3.2 kbit/s), where its programs are installed"
    main_option: ClassVar[str] = "mode"

    mode: str | int = "3200"

    def __post_init__(self) -> None:
        if str(self.mode).upper() not in MODES:
            raise ReferenceCodecError(f"codec2: mode {self.mode!r} is not one of {', '.join(MODES)}")

    @property
    def label(self) -> str:
        return f"codec2 {kilobits(self._bitrate)}"

    @property
    def _bitrate(self) -> int:
        return int(str(self.mode).upper().rstrip("C"))

    @property
    def sample_rate(self) -> int:
        return RATE

    def prepare(self) -> None:
        for program in ("c2enc", "c2dec"):
            _program(program)

    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        narrow = np.clip(resample(audio, sample_rate, RATE), -1, 1)
        pcm = np.round(narrow * 32767).astype("<i2")
        frames = -(-len(pcm) // FRAME)
        padded = np.pad(pcm, (0, (frames + 1) * FRAME - len(pcm)))  # one more: the decoder's delay
        mode = str(self.mode).upper()
        coded = _pipe("c2enc", mode, padded.tobytes())
        decoded = np.frombuffer(_pipe("c2dec", mode, coded), dtype="<i2").astype(np.float32) / 32768
        bits = round(frames * FRAME / RATE * self._bitrate)
        return Decoded(fit(resample(decoded, RATE, sample_rate), len(audio)), bits)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ReferenceUnavailable(
            f"program not found: codec2 needs {name}; install Codec 2 (Debian, Ubuntu: apt install codec2)"
        )
    return found


def _pipe(name: str, mode: str, data: bytes) -> bytes:
    done = subprocess.run([_program(name), mode, "-", "-"], input=data, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise ReferenceCodecError(f"codec2: {name} ended with {done.returncode}: {reason}")
    return done.stdout
