"""docs/make_unseen.py makes corpora that a study can use, with the noise that it says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

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


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Seven clips of English, of which six are for test, and two of German; each claims to last a minute."""
    random = np.random.default_rng(0)
    rows = ["path,speaker,split,lang,seconds"]
    kinds = [("train", "en"), ("validation", "en"), *[("test", "en")] * 6, ("train", "de"), ("train", "de")]
    for number, (split, lang) in enumerate(kinds):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * random.standard_normal(32_000), 16_000)
        rows.append(f"{number}.wav,{split}{number},{split},{lang},60")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(rows))
    return path


def test_corpora_of_a_seen_language_others_and_noise(manifest: Path, script: ModuleType) -> None:
    script.main([str(manifest), "--minutes", "1.5"])
    english, foreign, noisy = (
        data.prepare(f"manifest:{manifest.parent / name}", sample_rate=16_000) for name in script.WRITTEN
    )
    assert len(english.split("train")) == 1
    assert len(foreign.split("test")) == 1  # a minute of the minute and a half that were asked for
    test = english.split("test")
    assert list(noisy.split("test").speakers) == list(test.speakers)
    for index, wanted in enumerate((5, 5, 10, 10, 15, 15)):
        clip, mixed = test.clip(index), noisy.split("test").clip(index)
        assert len(clip) == len(mixed)
        # Levels of clips are normalised: the part of the mixture that is not the clip, by least squares.
        noise = mixed - clip * (mixed @ clip) / (clip @ clip)
        assert 10 * np.log10(np.sum((mixed - noise) ** 2) / np.sum(noise**2)) == pytest.approx(
            wanted, abs=0.5
        )
        power = np.abs(np.fft.rfft(noise)) ** 2
        low, high = power[20:200].mean(), power[-8000:].mean()
        assert (low > 20 * high) == (index % 2 == 1)  # pink; a babble of white clips is white


def test_a_manifest_is_not_overwritten(manifest: Path, script: ModuleType) -> None:
    mine = manifest.rename(manifest.with_name("english.csv"))
    before = mine.read_bytes()
    with pytest.raises(SystemExit):
        script.main([str(mine)])
    assert mine.read_bytes() == before


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


def test_a_manifest_without_languages_is_refused(manifest: Path, script: ModuleType) -> None:
    manifest.write_text("path,speaker,split\n0.wav,a,train\n")
    with pytest.raises(SystemExit, match="add the columns lang, seconds"):
        script.main([str(manifest)])
