"""Pairs of recording and reconstruction, in two folders or in a manifest of pairs, and their clips."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.data import audio_files
from experiments.data.recording import open_recording
from experiments.data.splitting import readable_name
from experiments.evaluation.scores import EvaluationError
from experiments.metrics.signals import LONGEST_SECONDS, resample, too_long

SIDE_SUFFIXES = (".in", ".out", ".ref", ".rec")
"""Endings before the file type that name the side, not the utterance."""


@dataclass(frozen=True)
class Pairs:
    """Files by utterance. What has no reconstruction is still asked for; what has no reference cannot be.

    left_out: what looks like audio in either folder and is not read, with the reason.
    """

    references: dict[str, Path]
    reconstructions: dict[str, Path]
    only_reconstructions: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def only_references(self) -> tuple[str, ...]:
        return tuple(name for name in self.references if name not in self.reconstructions)


def match_folders(references: Path, reconstructions: Path) -> Pairs:
    """Pair the audio files below two folders by relative path without endings such as `.in.wav`.

    Raises `EvaluationError` where a folder is missing, two files have one name, or nothing matches.
    """
    (left, not_left), (right, not_right) = _audio_files(references), _audio_files(reconstructions)
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
        left_out=(*not_left, *not_right),
    )


def recordings(folder: Path) -> dict[str, Path]:
    """Audio files below a folder by utterance. Raises `EvaluationError` where there are none."""
    files, left_out = _audio_files(folder)
    if not files:
        also = f"; not read: {left_out[0]}" if left_out else ""
        raise EvaluationError(f"{folder}: no audio files in it{also}")
    return files


def read_manifest(manifest: Path, references: Path, reconstructions: Path) -> Pairs:
    """Pairs from a CSV with the columns `reference`, `reconstruction` and, if wanted, `name`.

    Paths are relative to the two folders, or absolute. Raises `EvaluationError` naming the file and line.
    """
    if why := audio_files.problem(manifest):
        raise EvaluationError(f"{manifest}: {why}")
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


def check_folders(*folders: Path) -> None:
    """Raise `EvaluationError` for the first that is no folder."""
    for folder in folders:
        if why := audio_files.folder_problem(folder):
            raise EvaluationError(f"{folder}: {why}")


def _audio_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    check_folders(folder)
    listing = audio_files.audio_below(folder)
    files: dict[str, Path] = {}
    for path in sorted(listing.audio):
        name = _utterance(path.relative_to(folder))
        if name in files:
            raise EvaluationError(f"{folder}: {files[name].name!r} and {path.name!r} are both {name!r}")
        files[name] = path
    return files, [f"{readable_name(path)}: {why}" for path, why in sorted(listing.left_out)]


def _utterance(path: Path) -> str:
    name = readable_name(path.with_suffix("") if path.name else path)
    for side in SIDE_SUFFIXES:
        if name.endswith(side):
            return name.removesuffix(side)
    return name


def _summary(folder: Path, files: Mapping[str, Path]) -> str:
    example = f", such as {next(iter(files))!r}" if files else ""
    return f"{folder} has {len(files)} audio files{example}"


class ClipFiles(Mapping[str, np.ndarray]):
    """Mono clips read from files when they are asked for: float32 `[samples]` at `sample_rate` Hz.

    Channels are averaged; another rate is brought to `sample_rate` as the evaluation protocol says.
    A file that cannot be read to its end raises `OSError` with a short reason.
    """

    def __init__(self, files: Mapping[str, Path], sample_rate: int) -> None:
        self.files = files
        self.sample_rate = sample_rate

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            mono, rate = _clip(self.files[name])
        except Exception as error:
            raise OSError(audio_files.reason(error)) from error
        if rate == self.sample_rate or not len(mono) or not np.isfinite(mono).all():
            return mono
        return resample(mono, rate, self.sample_rate)

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def _clip(path: Path) -> tuple[np.ndarray, int]:
    """Samples and rate of a file. Raises OSError with the reason."""
    with open_recording(path) as recording:
        rate = recording.rate
        mono = recording.read(int(LONGEST_SECONDS * rate) + 1, "float32")
        if recording.seconds > LONGEST_SECONDS:
            raise OSError(too_long(max(recording.stated or 0, len(mono)) / rate))
        if recording.damage:
            raise OSError(recording.ending())
        return mono, rate


def sample_rate_of(path: Path) -> int | None:
    """Sample rate of a file in Hz, None where it cannot be read."""
    try:
        with open_recording(path) as recording:
            return recording.rate
    except Exception:  # reading it for its samples tells the reason
        return None
