"""Recordings that arrive in parts, coded in blocks, decoded as they arrive, to the bits of reconstruct."""

import io
from typing import Any

import numpy as np
import pytest
import torch

import quantizers
from codec import backbones, model
from codec.bitstream import blocks, recordings
from codec.bitstream.blocks import BlockReader, BlockWriter, StreamHeader
from codec.bitstream.container import CodedRecording, StreamError
from codec.bitstream.payload import Settings
from codec.bitstream.streams import StreamDecoder, StreamEncoder
from codec.model import Codec

DIGEST = "sha256:" + "0123456789abcdef" * 4
HEADER = StreamHeader(
    settings=Settings("context", 3, 5), identity=bytes(range(8)), sample_rate=16_000, hop=96, factors=2
)


def codec_of(name: str, backbone: str = "mdct-tiny", **options: Any) -> Codec:
    made = model.build(
        backbones.get(backbone), lambda dim: quantizers.create(name, dim=dim, **options), seed=0
    )
    return made.eval().requires_grad_(False)


def speech(samples: int) -> torch.Tensor:
    time = torch.arange(samples) / 16_000
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    return 0.3 * torch.sin(2 * torch.pi * (150 + 40 * time) * time) + 0.02 * noise


def coded(codec: Codec, audio: torch.Tensor, part: int = 7_000, **options: Any) -> bytes:
    encoder = StreamEncoder(codec, DIGEST, **options)
    return b"".join([*(encoder.feed(one) for one in audio.split(part)), encoder.finish()])


def decoded(codec: Codec, content: bytes) -> torch.Tensor:
    return torch.cat([*StreamDecoder(codec, DIGEST, io.BytesIO(content).read).parts()])


@pytest.mark.parametrize(
    ("backbone", "name", "options"),
    [
        ("mdct-tiny", "fsq", {"bits": 14}),
        ("mdct-tiny", "multiscale-rvq", {"codebook_size": 32, "strides": (3, 2, 1)}),
        ("soundstream", "rvq", {"codebook_size": 32}),
    ],
)
@pytest.mark.parametrize("samples", [0, 1, 15_999, 50_000])
@pytest.mark.parametrize("model_name", [None, "adaptive", "context"])
def test_decoded_audio_is_that_of_reconstruct(
    backbone: str, name: str, options: dict[str, Any], samples: int, model_name: str | None
) -> None:
    codec = codec_of(name, backbone, **options)
    audio = speech(samples)
    content = coded(codec, audio, model=model_name, block_seconds=0.7)
    expected = codec.reconstruct(audio[None])[0] if samples else audio
    assert torch.equal(decoded(codec, content), expected)
    assert content == coded(codec, audio, part=1_234, model=model_name, block_seconds=0.7)


def test_blocks_cost_little_beside_one_payload() -> None:
    codec = codec_of("fsq", bits=14)
    audio = speech(160_000)
    whole = recordings.encode(codec, DIGEST, audio, "context").to_bytes()
    assert len(coded(codec, audio, model="context", block_seconds=2.0)) < 1.02 * len(whole) + 5 * 12


def test_audio_comes_as_the_bytes_arrive() -> None:
    """With the first k blocks there is the audio of all their frames but for those that the decoder looks
    ahead by."""
    codec = codec_of("fsq", bits=14)
    audio = speech(64_000)
    encoder = StreamEncoder(codec, DIGEST, block_seconds=1.0)
    sent = b""
    for first in range(0, 64_000, 8_000):
        sent += encoder.feed(audio[first : first + 8_000])
    heard: list[torch.Tensor] = []
    with pytest.raises(StreamError, match="cut short"):
        for part in StreamDecoder(codec, DIGEST, io.BytesIO(sent).read).parts():
            heard.append(part)
    assert [len(part) for part in heard[1:]] == [167 * 96] * 2
    late = 167 * 96 - len(heard[0])
    assert late == (codec.decoder.reach.after + 1) * 96
    together = torch.cat(heard)
    assert torch.equal(together, codec.reconstruct(audio[None])[0, : len(together)])


def test_memory_of_contexts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MOST_PAIRS", 50)
    random = np.random.default_rng(0)
    writer = BlockWriter(HEADER, (64, 3), (1, 1))
    rows = [np.stack([random.integers(0, 64, 40), random.integers(0, 3, 40)], 1) for _ in range(6)]
    content = b"".join([writer.header(), *map(writer.block, rows), writer.end(0)])
    assert sum(map(len, writer._models[0]._after.values())) <= 50
    assert len(writer._models[1]._after) > 1  # few codes are remembered
    read = [*BlockReader(io.BytesIO(content).read).blocks((64, 3), (1, 1))]
    assert all(np.array_equal(one, other) for one, other in zip(read, rows, strict=True))


def test_every_cut_and_every_change_is_noticed() -> None:
    random = np.random.default_rng(0)
    writer = BlockWriter(HEADER, (9, 64), (1, 1))
    rows = [np.stack([random.integers(0, 9, 30), random.integers(0, 64, 30)], 1) for _ in range(3)]
    parts = [writer.header(), *map(writer.block, rows), writer.end(8_640)]
    content = b"".join(parts)

    def read(given: bytes) -> int:
        reader = BlockReader(io.BytesIO(given).read)
        assert sum(map(len, reader.blocks((9, 64), (1, 1)))) == 90
        return reader.samples

    assert read(content) == 8_640
    for length in range(len(content)):
        with pytest.raises(StreamError, match="cut short"):
            read(content[:length])
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= int(random.integers(1, 256))
        with pytest.raises(StreamError):
            read(bytes(changed))
    with pytest.raises(StreamError, match="bytes follow its end"):
        read(content + b"x")
    with pytest.raises(StreamError, match="damaged"):
        read(b"".join([parts[0], parts[2], parts[1], *parts[3:]]))  # blocks in another order
    with pytest.raises(StreamError, match="damaged"):
        read(b"".join([parts[0], *parts[2:]]))  # one is missing
    with pytest.raises(StreamError, match=r"version 3 .* reads versions 1 and 2"):
        read(content[:4] + b"\x03" + content[5:])
    with pytest.raises(StreamError, match="coded in blocks"):
        CodedRecording.from_bytes(content)


def test_layout_is_that_of_version_2() -> None:
    """Files that were written must be read by every later version: this layout never changes."""
    writer = BlockWriter(HEADER, (9, 64), (1, 1))
    header = writer.header()
    assert (
        header.hex()
        == "cb697473" + "02" + "02" + "2b" + "0001020304050607" + "807d" + "60" + "02" + HEADER_SUM
    )
    block = writer.block(np.array([[1, 2], [1, 3], [8, 63]]))
    assert block[0] == 3
    assert block[1] == len(block) - 6
    assert (block.hex(), writer.end(200).hex()) == (BLOCK, END)


HEADER_SUM = "60b31d30"
BLOCK = "03041d633bb7ad51089a"
END = "00c8014c9ebef7"


def test_what_cannot_be_in_blocks_is_refused() -> None:
    with pytest.raises(StreamError, match=r"cannot code a recording in blocks: .* no bounded reach"):
        StreamEncoder(codec_of("fsq", "wavtokenizer-small", bits=14), DIGEST)
    with pytest.raises(StreamError, match="model 'static' sends the frequencies"):
        StreamEncoder(codec_of("fsq", bits=14), DIGEST, "static")
    codec = codec_of("fsq", bits=14)
    content = coded(codec, speech(1000))
    with pytest.raises(StreamError, match="give the run that encoded it"):
        StreamDecoder(codec, "sha256:" + "fe" * 32, io.BytesIO(content).read)
