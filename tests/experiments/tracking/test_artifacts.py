import json
from pathlib import Path

import numpy as np
import soundfile

from experiments.tracking.artifacts import write_audio


def test_logged_pairs_are_spread_over_the_test_split(tmp_path: Path) -> None:
    audio = {f"s{n // 5}/clip é{n}.wav": (np.full(8, n / 100), np.zeros(8)) for n in range(20)}
    write_audio(tmp_path, audio, 4, 8000)
    names = json.loads((tmp_path / "audio" / "utterances.json").read_text(encoding="utf-8"))
    assert list(names.values()) == [f"s{n // 5}/clip é{n}.wav" for n in (0, 5, 10, 15)]
    assert list(names)[1] == "01-clip--5"
    written = sorted(path.name for path in (tmp_path / "audio").glob("*.flac"))
    assert len(written) == 8
    samples, rate = soundfile.read(tmp_path / "audio" / "01-clip--5.reference.flac")
    assert rate == 8000
    assert abs(samples[0] - 0.05) < 1e-4  # 16 bits


def test_no_more_than_there_are(tmp_path: Path) -> None:
    write_audio(tmp_path, {"a": (np.zeros(8), np.zeros(8))}, 3, 8000)
    assert len(list((tmp_path / "audio").glob("*.flac"))) == 2
