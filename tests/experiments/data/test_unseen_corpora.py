"""docs/make_unseen.py makes corpora that a study can use, with the noise that it says."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from experiments import data

SCRIPT = Path(__file__).parents[3] / "docs" / "make_unseen.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_unseen", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_languages(speech: Path, folder: Path) -> Path:
    """The manifest of `speech` with its training clips in two languages. Each claims to last a minute."""
    with speech.open() as file:
        rows = list(csv.DictReader(file))
    training = [row for row in rows if row["split"] == "train"]
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "speaker", "split", "lang", "seconds"])
        writer.writeheader()
        for row in rows:
            lang = "de" if row in training[1:] else "en"
            path = speech.parent / row["path"]
            writer.writerow(row | {"path": path, "lang": lang, "seconds": 60})
    return manifest


def test_corpora_of_a_seen_language_others_and_noise(
    speech: Path, tmp_path: Path, script: ModuleType
) -> None:
    script.main([str(with_languages(speech, tmp_path)), "--minutes", "1.5"])
    english = data.prepare(f"manifest:{tmp_path / 'english.csv'}", sample_rate=16_000)
    foreign = data.prepare(f"manifest:{tmp_path / 'foreign.csv'}", sample_rate=16_000)
    noisy = data.prepare(f"manifest:{tmp_path / 'noisy.csv'}", sample_rate=16_000)
    assert len(english.split("train")) == 1
    assert len(foreign.split("test")) == 1  # a minute of the minute and a half that were asked for
    test = english.split("test")
    assert list(noisy.split("test").speakers) == list(test.speakers)
    for index in range(len(test)):
        clip, mixed = test.clip(index), noisy.split("test").clip(index)
        assert len(clip) == len(mixed)
        # Levels of clips are normalised: the part of the mixture that is not the clip, by least squares.
        noise = mixed - clip * (mixed @ clip) / (clip @ clip)
        ratio = 10 * np.log10(np.sum((mixed - noise) ** 2) / np.sum(noise**2))
        assert ratio == pytest.approx(script.RATIOS[index // 2 % len(script.RATIOS)], abs=1)


def test_noise_has_the_ratio_that_was_asked_for(script: ModuleType) -> None:
    random = np.random.default_rng(0)
    clip = random.standard_normal(16_000).astype(np.float32)
    for ratio in (-5.0, 0.0, 15.0):
        added = script.mix(clip, script._pink(16_000, random), ratio) - clip
        assert 10 * np.log10(np.mean(clip**2) / np.mean(added**2)) == pytest.approx(ratio, abs=1e-3)


def test_pink_noise_has_equal_power_in_each_octave(script: ModuleType) -> None:
    power = np.abs(np.fft.rfft(script._pink(2**16, np.random.default_rng(0)))) ** 2
    octaves = [power[2**n : 2 ** (n + 1)].sum() for n in range(8, 15)]
    assert np.ptp(10 * np.log10(octaves)) < 1.5


def test_a_manifest_without_languages_is_refused(speech: Path, script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="add the columns lang, seconds"):
        script.main([str(speech)])
