"""Make the corpora of the study soundstream-unseen from a manifest that has a column of languages.

    python docs/make_unseen.py corpus/manifest.csv

Beside the manifest are written:

- english.csv: the rows whose language is `en`, with their splits. Codecs are trained on it.
- foreign.csv: up to `--minutes` of each other language, as a test split.
- noisy.csv and noisy/: the test split of english.csv with noise added, at 16 kHz. Every second clip has pink
  noise, the others a babble of six clips of the validation split; the signal-to-noise ratios are 5, 10 and
  15 dB, each for two clips in turn.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from experiments.data.dataset import Split

SAMPLE_RATE = 16_000
RATIOS = (5.0, 10.0, 15.0)  # dB
CLIPS = 6  # in a babble
ENGLISH = "en"
WRITTEN = ("english.csv", "foreign.csv", "noisy.csv")
FIELDS = ("path", "speaker", "split")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="CSV with path, speaker, split, lang and seconds")
    parser.add_argument("--minutes", type=float, default=7.0, help="of each other language")
    given = parser.parse_args(arguments)
    rows = _read(given.manifest)
    known = [row for row in rows if row["lang"] == ENGLISH]
    if not known or len(known) == len(rows):
        parser.error(f"{given.manifest}: the column lang needs {ENGLISH} and another language")
    folder = given.manifest.parent
    if given.manifest.name in WRITTEN:
        parser.error(f"{given.manifest} would be overwritten: give the manifest another name")
    _write(folder / "english.csv", known)
    foreign = _some_of_each([row for row in rows if row["lang"] != ENGLISH], given.minutes)
    _write(folder / "foreign.csv", [row | {"split": "test"} for row in foreign])
    _write(folder / "noisy.csv", _noisy(folder))


def _read(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if lacking := {*FIELDS, "lang", "seconds"} - {*(reader.fieldnames or ())}:
            raise SystemExit(f"{manifest}: add the columns {', '.join(sorted(lacking))}")
        return list(reader)


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{path}: {len(rows)} clips")


def _some_of_each(rows: Sequence[dict[str, str]], minutes: float) -> list[dict[str, str]]:
    """Clips of each language in a random order, until `minutes` are full."""
    order = np.random.default_rng(0).permutation(len(rows))
    left = {row["lang"]: 60 * minutes for row in rows}
    chosen = []
    for row in (rows[index] for index in order):
        if (seconds := float(row["seconds"])) <= left[row["lang"]]:
            left[row["lang"]] -= seconds
            chosen.append(row)
    return sorted(chosen, key=lambda row: row["path"])


def _noisy(folder: Path) -> list[dict[str, str]]:
    import soundfile

    from experiments import data

    shards = data.prepare(f"manifest:{folder / 'english.csv'}", sample_rate=SAMPLE_RATE)
    test, voices = shards.split("test"), shards.split("validation")
    (folder / "noisy").mkdir(exist_ok=True)
    rows = []
    for index in range(len(test)):
        random = np.random.default_rng(index)
        clip = test.clip(index)
        noise = _pink(len(clip), random) if index % 2 else _babble(voices, len(clip), random)
        mixed = mix(clip, noise, RATIOS[index // 2 % len(RATIOS)])
        path = f"noisy/{index:04}.flac"
        soundfile.write(folder / path, mixed / max(1.0, float(np.abs(mixed).max())), SAMPLE_RATE)
        rows.append({"path": path, "speaker": test.speakers[index], "split": "test"})
    return rows


def mix(clip: np.ndarray, noise: np.ndarray, ratio: float) -> np.ndarray:
    """`clip` [samples] with `noise` [samples] at a signal-to-noise ratio in dB, of mean powers."""
    power = np.mean(np.square(clip, dtype=np.float64)) / np.mean(np.square(noise, dtype=np.float64))
    return np.asarray(clip + np.sqrt(power * 10 ** (-ratio / 10)) * noise)


def _pink(samples: int, random: np.random.Generator) -> np.ndarray:
    """Gaussian noise [samples] whose power falls as 1 / frequency."""
    spectrum = np.fft.rfft(random.standard_normal(samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, samples)


def _babble(voices: Split, samples: int, random: np.random.Generator) -> np.ndarray:
    """The sum of clips of one power, each repeated to `samples`; [samples]. Silent clips are rejected before,
    when the corpus is prepared."""
    chosen = random.choice(len(voices), min(CLIPS, len(voices)), replace=False)
    clips = [voices.clip(int(index)) for index in chosen]
    return np.sum([np.resize(clip, samples) / np.sqrt(np.mean(np.square(clip))) for clip in clips], axis=0)


if __name__ == "__main__":
    main()
