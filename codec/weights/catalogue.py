"""Releases whose weights can be obtained: files, checksums, licence, and where they are."""

import difflib
from dataclasses import dataclass


class WeightsError(ValueError):
    """Weights cannot be had or are not what they should be; the message says what to do."""


@dataclass(frozen=True)
class ReleasedFile:
    """A file of a release. size: bytes. url: of a fixed commit."""

    name: str
    size: int
    sha256: str
    url: str


@dataclass(frozen=True)
class Release:
    """A set of files that are published together.

    variable: environment variable that names a folder with them. extra: of this package, which reading them
    needs. content_hash: of the tensors that they are converted to, whatever reads them.
    """

    name: str
    title: str
    licence: str
    source: str
    variable: str
    extra: str
    files: tuple[ReleasedFile, ...]
    content_hash: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


_LYRA_COMMIT = "47698dadf0010abff6a848e02642f55f806d4842"  # release 1.3.2
_LYRA_FOLDER = f"https://raw.githubusercontent.com/google/lyra/{_LYRA_COMMIT}/lyra/model_coeffs"


def _lyra(name: str, size: int, sha256: str) -> ReleasedFile:
    return ReleasedFile(name, size, sha256, f"{_LYRA_FOLDER}/{name}")


_RELEASES = {
    "soundstream": Release(
        name="soundstream",
        title="SoundStream of Lyra 2: encoder, residual quantizer, decoder; 16 kHz",
        licence="Apache-2.0",
        source=f"https://github.com/google/lyra/tree/{_LYRA_COMMIT}/lyra/model_coeffs",
        variable="CODECBENCH_SOUNDSTREAM",
        extra="soundstream",
        files=(
            _lyra(
                "soundstream_encoder.tflite",
                1_779_200,
                "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1",
            ),
            _lyra(
                "quantizer.tflite",
                329_012,
                "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c",
            ),
            _lyra(
                "lyragan.tflite",
                1_475_160,
                "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06",
            ),
        ),
        content_hash="886db88d5e47ea452e1ea59065ac5862785c1180b1bce14c75229aedfb15d0e1",
    )
}


def available() -> tuple[str, ...]:
    """Names of all releases."""
    return tuple(_RELEASES)


def get(name: str) -> Release:
    """The release `name`. Raises WeightsError with a suggestion if there is none."""
    if name not in _RELEASES:
        close = difflib.get_close_matches(name, _RELEASES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise WeightsError(f"no released weights {name!r}; {hint}known: {', '.join(_RELEASES)}")
    return _RELEASES[name]
