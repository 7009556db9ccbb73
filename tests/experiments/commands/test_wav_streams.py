"""WAV from and to pipes, against libsndfile and scipy."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile

from experiments.commands.bitstreams.audio_input import AudioInput
from experiments.commands.bitstreams.wav_streams import NotWAV, WAVReader, header
from experiments.data.audio_files import UnreadableFile


def samples(frames: int, channels: int) -> np.ndarray:
    return 0.5 * np.random.default_rng(frames).uniform(-1, 1, (frames, channels))


def read(content: bytes) -> tuple[int, np.ndarray, str]:
    reader = WAVReader(io.BytesIO(content).read, bytearray())
    parts = [*reader.parts()]
    return reader.rate, np.concatenate([np.zeros(0), *parts]), reader.ending()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
@pytest.mark.parametrize(("frames", "channels"), [(0, 1), (1, 1), (10_001, 2), (4_001, 3)])
def test_samples_are_those_of_libsndfile(subtype: str, kind: str, frames: int, channels: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, samples(frames, channels), 24_000, format=kind, subtype=subtype)
    file.seek(0)
    expected, _ = soundfile.read(file, always_2d=True)
    rate, made, remark = read(file.getvalue())
    assert (rate, remark) == (24_000, "")
    assert np.array_equal(made, expected[:, 0] if channels == 1 else expected.mean(axis=1))


def test_header_is_that_of_scipy_and_may_be_open_ended() -> None:
    file, audio = io.BytesIO(), samples(777, 1)[:, 0].astype(np.float32)
    wavfile.write(file, 16_000, audio)
    assert header(16_000, 777) + audio.tobytes() == file.getvalue()
    rate, made, remark = read(header(16_000, None) + audio.tobytes())
    assert (rate, remark) == (16_000, "")
    assert np.array_equal(made, audio)
    opened, _ = soundfile.read(io.BytesIO(header(16_000, None) + audio.tobytes()), dtype="float32")
    assert np.array_equal(opened, audio)  # libsndfile reads to the end, too


def test_what_is_cut_or_foreign() -> None:
    file = io.BytesIO()
    soundfile.write(file, samples(16_000, 2), 16_000, format="WAV", subtype="PCM_16")
    content = file.getvalue()
    _, made, remark = read(content[: 44 + 4 * 4_000 + 3])
    assert (len(made), remark) == (4_000, "ends after 0.25 of 1.00 s")
    for wrong in (b"", b"RIFF", b"fLaC" + content, content[:20], content[:20] + b"\x11\x00" + content[22:]):
        taken = bytearray()
        with pytest.raises(NotWAV):
            WAVReader(io.BytesIO(wrong).read, taken)
        assert wrong.startswith(bytes(taken))


def test_other_formats_come_through_a_pipe(tmp_path: Path) -> None:
    audio = samples(40_000, 1)[:, 0]
    for name, rate in (("a.flac", 16_000), ("a.wav", 16_000), ("a.flac", 24_000)):
        soundfile.write(tmp_path / name, audio, rate)
        made = [np.concatenate([*AudioInput(tmp_path / name, 16_000).parts()])]
        with (tmp_path / name).open("rb") as file:
            made.append(np.concatenate([*AudioInput(file, 16_000).parts()]))
        assert np.array_equal(*made)
        assert len(made[0]) == round(40_000 * 16_000 / rate + 0.4)
    with pytest.raises(UnreadableFile, match="nothing arrived"):
        next(AudioInput(io.BytesIO(), 16_000).parts())
    slow = header(1_000, 50) + bytes(200)
    with pytest.raises(UnreadableFile, match="sample rate 1000 Hz"):
        next(AudioInput(io.BytesIO(slow), 16_000).parts())
