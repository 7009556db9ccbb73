"""`encode` and `decode` on really trained runs: files, pipes, rates, and what is refused."""

import io
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import analysis
from codec.bitstream.recordings import encode
from experiments.cli import app
from experiments.commands.bitstreams import files
from experiments.common import run_folder, tensor_files
from experiments.data import prepare
from experiments.data.signal import resample
from experiments.tracking.models.trained_codecs import load_trained

RATE = 16_000  # of the codecs
Finished = tuple[Path, int, list[str]]


@pytest.fixture(scope="module")
def trainings(finished: Finished) -> list[Path]:
    """The folders of two trained runs, of fsq and of q2d2-hex."""
    weights = sorted((finished[0] / "runs").glob(f"*/{run_folder.WEIGHTS}"))
    named = {tensor_files.read(path)[1]["config"]: path.parent for path in weights}
    of = {json.loads(config)["quantizer"]["name"]: folder for config, folder in named.items()}
    return [of["fsq"], of["q2d2-hex"]]


@pytest.fixture(scope="module")
def clip(finished: Finished, speech: Path) -> Path:
    """A spoken sentence at 24 kHz."""
    return speech.parent / "test0.wav"


def command(*arguments: Any, code: int = 0, **options: Any) -> Any:
    done = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"}, **options)
    assert done.exit_code == code, done.output
    return done


def reconstructed(folder: Path, samples: np.ndarray, rate: int) -> np.ndarray:
    """What docs/trained_codecs.md says: resample, then `reconstruct`."""
    codec = analysis.load_codec(folder)
    audio = torch.from_numpy(resample(samples, rate, codec.sample_rate)).float().unsqueeze(0)
    return codec.reconstruct(audio)[0].numpy()


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("model", ["static", "adaptive", "context"])
def test_a_decoded_file_is_what_reconstruct_gives(
    trainings: list[Path], clip: Path, tmp_path: Path, row: int, model: str
) -> None:
    coded, decoded = tmp_path / "clip.cbits", tmp_path / "clip.wav"
    said = command("encode", clip, coded, "--checkpoint", trainings[row], "--model", model)
    command("decode", coded, decoded, "--checkpoint", trainings[row], "--quiet")
    samples, rate = soundfile.read(clip)
    assert rate == 24_000
    audio, decoded_rate = soundfile.read(decoded, dtype="float32")
    assert (decoded_rate, soundfile.info(decoded).subtype) == (RATE, "FLOAT")
    assert np.array_equal(audio, reconstructed(trainings[row], samples, rate))
    codec = analysis.load_codec(trainings[row])
    assert 8 * coded.stat().st_size < len(audio) / RATE * codec.bitrate * 1.05 + 8 * 45
    assert f"{coded.stat().st_size} bytes" in said.stderr
    assert f"by the model '{model}'" in said.stderr


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("samples", [1, 700, 30_000])
def test_other_rates_and_lengths(trainings: list[Path], tmp_path: Path, rate: int, samples: int) -> None:
    stereo = 0.1 * np.random.default_rng(samples).standard_normal((samples, 2))
    soundfile.write(tmp_path / "in.wav", stereo, rate, subtype="DOUBLE")
    command("encode", tmp_path / "in.wav", tmp_path / "coded", "--checkpoint", trainings[0])
    command("decode", tmp_path / "coded", tmp_path / "out.wav", "--checkpoint", trainings[0])
    audio, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert np.array_equal(audio, reconstructed(trainings[0], stereo.mean(axis=1), rate))


@pytest.mark.parametrize("block", [None, 0.4])
def test_a_long_recording_in_blocks_is_what_reconstruct_gives(
    trainings: list[Path], clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: float | None
) -> None:
    """From a file and from a pipe, into files of two formats and into a pipe."""
    monkeypatch.setattr(files, "WHOLE_SECONDS", 0.5)
    monkeypatch.setattr(files, "BLOCK_SECONDS", 0.3)
    options = [] if block is None else ["--block", block]
    one, other = tmp_path / "a.cbits", tmp_path / "b.cbits"
    said = command("encode", clip, one, "--checkpoint", trainings[0], *options)
    assert f"{one.stat().st_size} bytes" in said.stderr
    assert one.read_bytes()[4] == 2  # the version in blocks
    command("encode", "-", other, "--checkpoint", trainings[0], *options, input=clip.read_bytes())
    assert one.read_bytes() == other.read_bytes()
    expected = reconstructed(trainings[0], *soundfile.read(clip))
    for name in ("a.wav", "a.aif"):
        command("decode", one, tmp_path / name, "--checkpoint", trainings[0])
        audio, rate = soundfile.read(tmp_path / name, dtype="float32")
        assert rate == RATE
        assert np.array_equal(audio, expected)
    piped = command("decode", "-", "-", "--checkpoint", trainings[0], "-q", input=one.read_bytes())
    audio, _ = soundfile.read(io.BytesIO(piped.stdout_bytes), dtype="float32")
    assert np.array_equal(audio, expected)
    cut = one.read_bytes()[:-9]
    out = tmp_path / "cut.wav"
    refused = command("decode", "-", out, "--checkpoint", trainings[0], input=cut, code=2).output
    assert "stdin cannot be decoded: it is cut short" in refused
    assert not out.exists()


def test_a_recording_without_samples(trainings: list[Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(0), RATE)
    command("encode", tmp_path / "in.wav", tmp_path / "coded", "--checkpoint", trainings[0])
    command("decode", tmp_path / "coded", tmp_path / "out.wav", "--checkpoint", trainings[0])
    assert soundfile.info(tmp_path / "out.wav").frames == 0


@pytest.mark.parametrize("row", [0, 1])
def test_the_rate_in_the_table_is_that_of_the_files(
    finished: Finished, trainings: list[Path], speech: Path, row: int
) -> None:
    """`rate/coded` is the size of the coded test set without headers, two bytes a file apart at most."""
    results = analysis.load("tiny", f"sqlite:///{finished[0]}/mlflow.db")
    run = results.runs[results.runs["quantizer"] == ("fsq", "q2d2-hex")[row]].iloc[0]
    trained = load_trained(trainings[row])
    split = prepare(f"manifest:{speech}", sample_rate=RATE).split("test")
    coded = [
        encode(trained.codec, trained.digest, torch.from_numpy(split.clip(index)))
        for index in range(len(split))
    ]
    seconds = sum(one.frames for one in coded) / trained.codec.frame_rate
    bits = 8 * sum(len(one.payload) for one in coded)
    assert abs(run["rate/coded"] * seconds - bits) <= 16 * len(coded)
    assert run["rate/coded"] < run["rate/bitrate"]
    assert {"rate/coded_static", "rate/coded_adaptive", "rate/coded_context", "rate/coded_stream"} <= {
        *run.index
    }
    table = analysis.render(analysis.comparison(results, ["bitrate", "coded", "coded_stream"]), "markdown")
    assert "coded rate ↓ (kbit/s)" in table
    assert f"{run['rate/coded'] / 1e3:.3f}" in table


@pytest.mark.slow
def test_through_pipes_and_by_a_hash(finished: Finished, trainings: list[Path], clip: Path) -> None:
    """By the beginning of a run's hash, as the page says; both directions in one shell line."""
    line = f"{shlex.quote(sys.executable)} -m experiments.cli"
    options = f"--run {trainings[0].name[:12]} --quiet"
    done = subprocess.run(
        f"{line} encode - - {options} < {shlex.quote(str(clip))} | {line} decode - - {options}",
        shell=True,
        cwd=finished[0],
        capture_output=True,
        timeout=300,
        check=True,
    )
    assert done.stderr == b""
    audio, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    samples, own = soundfile.read(clip)
    assert rate == RATE
    assert np.array_equal(audio, reconstructed(trainings[0], samples, own))


def test_decoded_twice_is_the_same_file(trainings: list[Path], clip: Path, tmp_path: Path) -> None:
    command("encode", clip, tmp_path / "coded", "--checkpoint", trainings[0])
    for name in ("a.wav", "b.wav"):
        command("decode", tmp_path / "coded", tmp_path / name, "--checkpoint", trainings[0])
        time.sleep(1.1)  # libsndfile writes seconds
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_other_formats_by_the_ending(trainings: list[Path], clip: Path, tmp_path: Path) -> None:
    command("encode", clip, tmp_path / "coded", "--checkpoint", trainings[0])
    for name, subtype in (("a.flac", "PCM_16"), ("a.aif", "FLOAT"), ("a.ogg", "VORBIS")):
        command("decode", tmp_path / "coded", tmp_path / name, "--checkpoint", trainings[0])
        assert soundfile.info(tmp_path / name).subtype == subtype


def test_what_cannot_be_is_refused(trainings: list[Path], clip: Path, tmp_path: Path) -> None:
    def refused(*arguments: Any, **options: Any) -> str:
        text = command(*arguments, code=2, **options).output
        return " ".join(text.replace("│", " ").split())

    coded, out = tmp_path / "coded", tmp_path / "out.wav"
    one, other = (["--checkpoint", folder] for folder in trainings)
    command("encode", clip, coded, *one)
    content = coded.read_bytes()
    assert "these are" in refused("decode", coded, out, *other)
    assert "give the run that encoded it" in refused("decode", coded, out, *other)
    coded.write_bytes(content[:-9])
    said = refused("decode", coded, out, *one)
    assert f"{coded} cannot be decoded: it is cut short: {len(content) - 9} of {len(content)}" in said
    coded.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    assert "it is damaged: its checksum" in refused("decode", coded, out, *one)
    assert "not written by `codecbench encode`" in refused("decode", clip, out, *one)
    assert "No such file" in refused("decode", tmp_path / "nothing", out, *one)
    assert "No such file" in refused("encode", tmp_path / "nothing", coded, *one)
    assert "a folder, not a file" in refused("encode", tmp_path, coded, *one)
    assert "stdin cannot be read as audio: nothing arrived" in refused("encode", "-", coded, *one, input=b"")
    assert "stdin cannot be decoded: nothing arrived" in refused("decode", "-", out, *one, input=b"")
    assert "stdin cannot be decoded: it was not" in refused("decode", "-", out, *one, input=b"CB it")
    (tmp_path / "empty").write_bytes(b"")
    assert "empty cannot be decoded: it is empty" in refused("decode", tmp_path / "empty", out, *one)
    assert "empty cannot be read as audio: empty" in refused("encode", tmp_path / "empty", coded, *one)
    static = ["--model", "static", "--block", "1"]
    assert "the model 'static' sends" in refused("encode", clip, coded, *one, *static)
    assert "no format of audio is known by this ending" in refused("decode", coded, tmp_path / "a.txt", *one)
    assert "either --run or --checkpoint" in refused("encode", clip, coded)
    assert "either --run or --checkpoint" in refused("encode", clip, coded, *one, "--run", "abcd")
    assert "there is no folder" in refused("encode", clip, coded, "--checkpoint", tmp_path / "none")
    assert "there is no file" in refused("encode", clip, coded, "--checkpoint", tmp_path)
    assert "OUT" in refused("encode", clip, tmp_path, *one)
    soundfile.write(tmp_path / "bad.wav", np.array([0.1, np.nan] * 4000), RATE, subtype="FLOAT")
    assert "NaN or infinite" in refused("encode", tmp_path / "bad.wav", coded, *one)
    assert not out.exists()


def test_a_run_without_codes_is_refused(trainings: list[Path], clip: Path, tmp_path: Path) -> None:
    tensors, metadata = tensor_files.read(trainings[0] / run_folder.WEIGHTS)
    config = json.loads(metadata["config"]) | {"quantizer": {"name": "none", "options": {}}}
    kept = {name: value for name, value in tensors.items() if not name.startswith("quantizer.")}
    tensor_files.write(tmp_path / run_folder.WEIGHTS, kept, {"config": json.dumps(config)})
    said = command("encode", clip, tmp_path / "coded", "--checkpoint", tmp_path, code=2).output
    assert "the quantizer 'none' has no codes" in said


def test_a_damaged_recording_is_coded_with_a_warning(
    trainings: list[Path], clip: Path, tmp_path: Path
) -> None:
    content = clip.read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 2])
    done = command("encode", tmp_path / "cut.wav", tmp_path / "coded", "--checkpoint", trainings[0], "-q")
    assert "warning: " in done.stderr
    assert "ends after" in done.stderr
