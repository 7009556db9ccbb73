"""The work of `codecbench encode` and `decode`: audio read, coded and written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import soundfile
import torch
import typer
from torch import Tensor

from codec import pieces
from codec.bitstream import recordings
from codec.bitstream.container import MAGIC, STREAM_VERSION, CodedRecording, StreamError
from codec.bitstream.streams import BLOCK_SECONDS, StreamDecoder, StreamEncoder
from experiments.commands.bitstreams import audio_output
from experiments.commands.bitstreams.audio_input import NOTHING, AudioInput, collected, first_bytes
from experiments.commands.bitstreams.audio_output import AudioWriter, Output
from experiments.commands.display.terminal import Console
from experiments.commands.outputs import STANDARD_STREAM
from experiments.data import audio_files
from experiments.data.audio_files import UnreadableFile
from experiments.tracking.models.trained_codecs import TrainedCodec, load_trained

WHOLE_SECONDS = 60.0  # of a recording that is coded as one payload


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


def encode(
    trained: TrainedCodec, source: str, target: str, model: str | None, block: float | None, console: Console
) -> str:
    """Code the audio file at `source` into `target`, and return a line about it. Raises FileError.

    block: seconds of each block; None codes a recording of up to `WHOLE_SECONDS` as one payload, and a longer
    one in blocks where the codec and the model can.
    """
    stream = typer.get_binary_stream("stdin") if source == STANDARD_STREAM else Path(source)
    audio = AudioInput(stream, trained.codec.sample_rate)
    try:
        with audio_output.opened(target) as output:
            note = _encode(trained, audio.parts(), output, model, block)
    except UnreadableFile as error:
        raise FileError(f"{_named(source)} cannot be read as audio: {error}") from None
    except StreamError as error:
        raise FileError(f"{_named(source)} cannot be coded: {error}") from None
    if audio.remark:
        console.say((f"warning: {_named(source)} {audio.remark}", "yellow"))
    return note


def _encode(
    trained: TrainedCodec, parts: Iterator[Tensor], output: Output, model: str | None, block: float | None
) -> str:
    codec = trained.codec
    if block is None:
        first, ended = collected(parts, round(WHOLE_SECONDS * codec.sample_rate))
        if not ended and (model == "static" or not _in_pieces(trained)):
            first, ended = torch.cat([first, *parts]), True
        if ended:
            coded = recordings.encode(codec, trained.digest, first, model)
            output.write(coded.to_bytes())
            return _about(trained, output.size, coded.samples, coded.settings.model)
        parts = itertools.chain([first], parts)
    seconds = (BLOCK_SECONDS, WHOLE_SECONDS) if block is None else (block, 0.0)
    encoder = StreamEncoder(codec, trained.digest, model, *seconds)
    for part in parts:
        if content := encoder.feed(part):
            output.write(content)
    output.write(encoder.finish())
    assert encoder.settings is not None
    return _about(trained, output.size, encoder.samples, encoder.settings.model)


def _about(trained: TrainedCodec, size: int, samples: int, model: str) -> str:
    codec, seconds = trained.codec, samples / trained.codec.sample_rate
    note = f"{size} bytes for {seconds:.2f} s by the model {model!r}"
    if samples:
        note += f": {8 * size / seconds / 1e3:.3f} kbit/s, nominally {codec.bitrate / 1e3:.3f}"
    return note


def decode(trained: TrainedCodec, source: str, target: str, kind: str) -> str:
    """Decode the file at `source` into `target`, an audio file of format `kind`, and return a line about it.

    Raises FileError.
    """
    rate = trained.codec.sample_rate
    try:
        with _binary(source) as stream:
            head, read = first_bytes(stream, len(MAGIC) + 1)
            if not head:
                raise StreamError(NOTHING if source == STANDARD_STREAM else "it is empty")
            if head == MAGIC + bytes([STREAM_VERSION]):
                decoder = StreamDecoder(trained.codec, trained.digest, read)
                parts = decoder.parts()
            else:
                content = b"".join(iter(lambda: read(2**20), b""))
                coded = CodedRecording.from_bytes(content)
                parts = iter([recordings.decode(trained.codec, trained.digest, coded)])
            with audio_output.opened(target) as output:
                writer = AudioWriter(output, rate, kind)
                for part in parts:
                    writer.write(part.numpy())
                writer.close()
            taken = decoder.taken if head == MAGIC + bytes([STREAM_VERSION]) else len(content)
    except StreamError as error:
        raise FileError(f"{_named(source)} cannot be decoded: {error}") from None
    return f"{writer.samples / rate:.2f} s at {rate} Hz from {taken} bytes"


def audio_format(target: str) -> str:
    """libsndfile's name of the format that the ending of `target` means, WAV for stdout. Raises FileError."""
    ending = Path(target).suffix[1:].upper() if target != STANDARD_STREAM else "WAV"
    kind = {"AIF": "AIFF", "WAVE": "WAV", "OGA": "OGG"}.get(ending, ending)
    if kind not in soundfile.available_formats() or kind == "RAW":
        raise FileError(f"{target}: no format of audio is known by this ending; give .wav, .flac or .ogg")
    return kind


@contextmanager
def _binary(source: str) -> Iterator[BinaryIO]:
    if source == STANDARD_STREAM:
        yield typer.get_binary_stream("stdin")
        return
    path = Path(source)
    if why := audio_files.problem(path):
        raise FileError(f"{path} cannot be read: {why}")
    with path.open("rb") as file:
        yield file


def _in_pieces(trained: TrainedCodec) -> bool:
    try:
        pieces.check_pieces(trained.codec)
    except pieces.PiecesError:
        return False
    return True


def _named(source: str) -> str:
    return "stdin" if source == STANDARD_STREAM else source
