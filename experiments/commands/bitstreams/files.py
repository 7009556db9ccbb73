"""The work of `codecbench encode` and `decode`: audio read, coded and written."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import torch
import typer
from scipy.io import wavfile

from codec.bitstream import recordings
from codec.bitstream.container import CodedRecording, StreamError
from experiments.commands import outputs
from experiments.commands.display.terminal import Console
from experiments.commands.outputs import STANDARD_STREAM
from experiments.data import audio_files
from experiments.data.audio_files import UnreadableFile
from experiments.data.recording import open_recording
from experiments.data.signal import resample
from experiments.tracking.models.trained_codecs import TrainedCodec, load_trained

_WHOLE = 2**62  # frames of any recording
_FLOAT_FORMATS = ("WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")  # whose samples can be float32


class FileError(ValueError):
    """A file that cannot be read or coded; the message names it and says why."""


def load(run: str | Path, tracking_uri: str | None, runs_folder: Path) -> TrainedCodec:
    """The trained codec of a run or a folder. Raises FileError for one without codes, and what
    `load_trained` raises."""
    trained = load_trained(run, tracking_uri, runs_folder=runs_folder)
    try:
        recordings.check_codes(trained.codec)
    except StreamError as error:
        raise FileError(f"{run}: {error}") from None
    return trained


def encode(trained: TrainedCodec, source: str, model: str | None, console: Console) -> tuple[bytes, str]:
    """Code the audio file at `source`: the file's bytes, and a line about them. Raises FileError."""
    codec = trained.codec
    audio, remark = _read_audio(source, codec.sample_rate)
    if remark:
        console.say((f"warning: {_named(source)} {remark}", "yellow"))
    coded = recordings.encode(codec, trained.digest, audio, model)
    content = coded.to_bytes()
    note = f"{len(content)} bytes for {coded.seconds:.2f} s by the model {coded.settings.model!r}"
    if coded.samples:
        measured = 8 * len(content) / coded.seconds / 1e3
        note += f": {measured:.3f} kbit/s, nominally {codec.bitrate / 1e3:.3f}"
    return content, note


def decode(trained: TrainedCodec, source: str, kind: str) -> tuple[bytes, str]:
    """Decode the file at `source`: an audio file of format `kind`, and a line about it. Raises FileError."""
    content = _read_bytes(source)
    try:
        coded = CodedRecording.from_bytes(content)
        audio = recordings.decode(trained.codec, trained.digest, coded)
    except StreamError as error:
        raise FileError(f"{_named(source)} cannot be decoded: {error}") from None
    file = io.BytesIO()
    if kind == "WAV":  # libsndfile would write the time of day into it, and so never the same file twice
        wavfile.write(file, coded.sample_rate, audio.numpy())
    else:
        subtype = "FLOAT" if kind in _FLOAT_FORMATS else None
        soundfile.write(file, audio.numpy(), coded.sample_rate, format=kind, subtype=subtype)
    return file.getvalue(), f"{coded.seconds:.2f} s at {coded.sample_rate} Hz from {len(content)} bytes"


def audio_format(target: str) -> str:
    """libsndfile's name of the format that the ending of `target` means, WAV for stdout. Raises FileError."""
    ending = Path(target).suffix[1:].upper() if target != STANDARD_STREAM else "WAV"
    kind = {"AIF": "AIFF", "WAVE": "WAV", "OGA": "OGG"}.get(ending, ending)
    if kind not in soundfile.available_formats() or kind == "RAW":
        raise FileError(f"{target}: no format of audio is known by this ending; give .wav, .flac or .ogg")
    return kind


def write(target: str, content: bytes) -> None:
    """Write `content` to a file or to stdout. Raises OutputError where it was written elsewhere."""
    if target == STANDARD_STREAM:
        stream = typer.get_binary_stream("stdout")
        stream.write(content)
        stream.flush()
    elif problem := outputs.save(Path(target), lambda path: path.write_bytes(content)):
        raise outputs.OutputError(problem)


def _read_audio(source: str, sample_rate: int) -> tuple[torch.Tensor, str]:
    """Mono audio [samples] at `sample_rate` Hz, and a remark on a file that ends too early."""
    given = _read_bytes(source) if source == STANDARD_STREAM else Path(source)
    try:
        with open_recording(given) as recording:
            samples = recording.read(_WHOLE)
            remark = recording.ending()
            rate = recording.rate
    except UnreadableFile as error:
        raise FileError(f"{_named(source)} cannot be read as audio: {error}") from None
    if not np.isfinite(samples).all():
        raise FileError(f"{_named(source)} has samples that are NaN or infinite")
    return torch.from_numpy(resample(samples, rate, sample_rate)).float(), remark


def _read_bytes(source: str) -> bytes:
    if source == STANDARD_STREAM:
        return typer.get_binary_stream("stdin").read()
    path = Path(source)
    if why := audio_files.problem(path):
        raise FileError(f"{path} cannot be read: {why}")
    return path.read_bytes()


def _named(source: str) -> str:
    return "stdin" if source == STANDARD_STREAM else source
