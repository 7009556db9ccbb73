"""The Python of docs/data.md and docs/evaluating_audio.md runs, and their lists are those of the code."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from experiments.data import formats
from experiments.metrics import golden

DOCS = Path(__file__).parents[3] / "docs"


def block(page: str) -> str:
    """The one block of Python of a page."""
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return code


def test_the_code_of_the_data_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        noise = 0.1 * np.random.default_rng(number).standard_normal(16_000)
        soundfile.write(tmp_path / f"{number}.wav", noise, 16_000)
    values: dict[str, object] = {}
    exec(block("data.md").replace('"demo"', repr(f"folder:{tmp_path}")), values)
    audio = values["audio"]
    assert isinstance(audio, np.ndarray)
    assert audio.shape == (16, 8_000)
    assert "train 0.0 min in 1 clip" in capsys.readouterr().out


def test_the_code_of_the_evaluation_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    clip = golden.utterance(1.0)
    values: dict[str, object] = {"references": {"a": clip}, "reconstructions": {"a": 0.9 * clip}}
    exec(block("evaluating_audio.md").replace("workers=2", "workers=1"), values)
    assert isinstance(values["frame"], pd.DataFrame)
    assert "estoi" in capsys.readouterr().out


def test_formats_that_the_page_names_are_read_or_reported() -> None:
    text = (DOCS / "data.md").read_text(encoding="utf-8")
    read = {".wav", ".rf64", ".w64", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".au", ".caf", ".sph", ".voc"}
    assert read <= formats.READABLE
    assert {".m4a", ".wma", ".wv"} <= formats.FOREIGN
    assert not formats.READABLE & formats.FOREIGN
    assert "WAV (also RF64, W64), FLAC, Ogg, Opus, MP3, AIFF, AU, CAF" in text
    assert "(M4A, WMA, WavPack, ...)" in text
