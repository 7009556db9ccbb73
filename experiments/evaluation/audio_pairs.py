"""Which recording belongs to which reconstruction, in two folders or in a manifest of pairs."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data.splitting import readable_name
from experiments.evaluation.scores import EvaluationError
from experiments.metrics.signals import LONGEST_SECONDS, resample, too_long

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64"})
SIDE_SUFFIXES = (".in", ".out", ".ref", ".rec")
"""Endings before the file type that name the side, not the utterance."""


@dataclass(frozen=True)
class Pairs:
    """Files by utterance. What has no reconstruction is still asked for; what has no reference cannot be."""

    references: dict[str, Path]
    reconstructions: dict[str, Path]
    only_reconstructions: tuple[str, ...] = ()

    @property
    def only_references(self) -> tuple[str, ...]:
        return tuple(name for name in self.references if name not in self.reconstructions)


def match_folders(references: Path, reconstructions: Path) -> Pairs:
    """Pair the audio files below two folders by relative path without endings such as ``.in.wav``.

    Raises ``EvaluationError`` where a folder is missing, two files have one name, or nothing matches.
    """
    left, right = _audio_files(references), _audio_files(reconstructions)
    both = [name for name in left if name in right]
    if not both:
        raise EvaluationError(
            f"no pairs: {_summary(references, left)}; {_summary(reconstructions, right)}. Files are paired "
            "by name without ending (.in.wav and .out.flac match); otherwise list the pairs with --pairs"
        )
    return Pairs(
        references=left,
        reconstructions={name: right[name] for name in both},
        only_reconstructions=tuple(name for name in right if name not in left),
    )


def recordings(folder: Path) -> dict[str, Path]:
    """Audio files below a folder by utterance. Raises ``EvaluationError`` where there are none."""
    files = _audio_files(folder)
    if not files:
        raise EvaluationError(f"{folder}: no audio files in it")
    return files


def read_manifest(manifest: Path, references: Path, reconstructions: Path) -> Pairs:
    """Pairs from a CSV with the columns ``reference``, ``reconstruction`` and, if wanted, ``name``.

    Paths are relative to the two folders, or absolute. Raises ``EvaluationError`` naming the file and line.
    """
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{manifest}: cannot be read as CSV: {error}") from error
    pairs = Pairs({}, {})
    for line, row in enumerate(rows, start=2):
        left, right = row.get("reference"), row.get("reconstruction")
        if not left or not right:
            raise EvaluationError(f"{manifest}, line {line}: needs the columns reference and reconstruction")
        name = row.get("name") or _utterance(Path(left))
        if name in pairs.references:
            raise EvaluationError(f"{manifest}, line {line}: a second row for {name!r}")
        pairs.references[name] = references / left
        pairs.reconstructions[name] = reconstructions / right
    if not pairs.references:
        raise EvaluationError(f"{manifest}: no pairs in it")
    return pairs


def _audio_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no such folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():
            continue
        name = _utterance(path.relative_to(folder))
        if name in files:
            raise EvaluationError(f"{folder}: {files[name].name!r} and {path.name!r} are both {name!r}")
        files[name] = path
    return files


def _utterance(path: Path) -> str:
    name = readable_name(path.with_suffix(""))
    for side in SIDE_SUFFIXES:
        if name.endswith(side):
            return name.removesuffix(side)
    return name


def _summary(folder: Path, files: Mapping[str, Path]) -> str:
    example = f", such as {next(iter(files))!r}" if files else ""
    return f"{folder} has {len(files)} audio files{example}"


class ClipFiles(Mapping[str, np.ndarray]):
    """Mono clips read from files when they are asked for: float32 ``[samples]`` at ``sample_rate`` Hz.

    Channels are averaged; another rate is brought to ``sample_rate`` as the evaluation protocol says.
    A file that cannot be read raises ``OSError`` with a short reason.
    """

    def __init__(self, files: Mapping[str, Path], sample_rate: int) -> None:
        self.files = files
        self.sample_rate = sample_rate

    def __getitem__(self, name: str) -> np.ndarray:
        import soundfile

        try:
            with soundfile.SoundFile(_bytes(self.files[name])) as file:
                rate = file.samplerate
                if file.frames > LONGEST_SECONDS * rate:
                    raise OSError(too_long(file.frames / rate))
                samples = file.read(dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise OSError(_reason(error)) from error
        mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(1)
        if rate == self.sample_rate or not len(mono) or not np.isfinite(mono).all():
            return np.asarray(mono)
        return resample(mono, rate, self.sample_rate)

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def sample_rate_of(path: Path) -> int | None:
    """Sample rate of a file in Hz, None where it cannot be read."""
    import soundfile

    try:
        return int(soundfile.info(_bytes(path)).samplerate)
    except (soundfile.LibsndfileError, OSError):
        return None


def _bytes(path: Path) -> bytes | str:
    """A path as libsndfile takes it: not every name on disk is UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _reason(error: Exception) -> str:
    """What is wrong with a file, without its path: that is in the row already."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".") or type(error).__name__
