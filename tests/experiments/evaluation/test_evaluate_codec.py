"""Recordings in a folder through reference codecs."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec import references
from experiments.evaluation.audio_pairs import recordings
from experiments.evaluation.codec_files import reconstruct_files
from experiments.evaluation.folders import score_pairs
from experiments.evaluation.scores import EvaluationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tone at two rates, and a text file under the name of a recording."""
    for rate in (16_000, 24_000):
        time = np.arange(rate) / rate
        soundfile.write(tmp_path / f"tone{rate}.wav", 0.3 * np.sin(2 * np.pi * 300 * time), rate)
    (tmp_path / "broken.wav").write_text("no audio")
    return tmp_path


def test_each_recording_at_its_own_rate_and_the_bits_of_all(folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    pairs, bitrate = reconstruct_files(references.create("pcm", {"bits": 8}), recordings(folder), made)
    assert bitrate == 8 * (16_000 + 24_000) / 2
    assert pairs.only_references == ("broken",)
    scores = score_pairs(pairs, ["si_sdr"]).set_index("utterance")
    assert set(scores[scores["status"] == "ok"]["sample_rate"]) == {16_000, 24_000}
    assert scores.loc["tone16000", "value"] > 30
    assert scores.loc["broken", "status"] != "ok"


def test_controls_spend_no_bits(folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    _, bitrate = reconstruct_files(references.create("ground-truth"), recordings(folder), made)
    assert bitrate is None


def test_a_folder_without_audio_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no audio files"):
        recordings(tmp_path)
