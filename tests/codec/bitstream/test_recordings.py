"""Recordings through any codec into a container and back, to the very bits of `reconstruct`."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import quantizers
from codec import backbones, model
from codec.bitstream import recordings
from codec.bitstream.container import MAGIC, CodedRecording, StreamError
from codec.bitstream.payload import MODELS, Settings
from codec.model import Codec

DIGEST = "sha256:" + "0123456789abcdef" * 4


def codec_of(name: str, backbone: str = "mdct-tiny", **options: Any) -> Codec:
    options = options or ({} if name == "none" else {"bits": 14})
    made = model.build(
        backbones.get(backbone), lambda dim: quantizers.create(name, dim=dim, **options), seed=0
    )
    return made.eval().requires_grad_(False)


def speech(samples: int) -> torch.Tensor:
    time = torch.arange(samples) / 16_000
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    return 0.3 * torch.sin(2 * torch.pi * (150 + 40 * time) * time) + 0.02 * noise


CODED = CodedRecording(
    settings=Settings("context", 3, 5),
    identity=bytes(range(8)),
    sample_rate=16_000,
    hop=96,
    samples=64_001,
    frames=667,
    factors=6,
    payload=bytes(range(200)),
)


@pytest.mark.parametrize(
    "name", [name for name in quantizers.available() if name not in ("none", "soundstream-rvq")]
)
def test_decoded_audio_is_that_of_reconstruct_by_every_quantizer(name: str) -> None:
    codec = codec_of(name)
    audio = speech(3_333)
    coded = recordings.encode(codec, DIGEST, audio)
    again = CodedRecording.from_bytes(coded.to_bytes())
    assert again == coded
    assert torch.equal(recordings.decode(codec, DIGEST, again), codec.reconstruct(audio[None])[0])


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("samples", [1, 95, 96, 97, 5_000, 40_000])
def test_any_length_by_every_model(samples: int, model_name: str) -> None:
    codec = codec_of("rvq", codebook_size=64, stages=2)
    audio = speech(samples)
    coded = recordings.encode(codec, DIGEST, audio, model_name)
    assert (coded.settings.model, coded.samples) == (model_name, samples)
    assert torch.equal(recordings.decode(codec, DIGEST, coded), codec.reconstruct(audio[None])[0])


def test_nothing_is_coded_as_nothing() -> None:
    codec = codec_of("fsq")
    coded = recordings.encode(codec, DIGEST, torch.zeros(0))
    assert (coded.frames, coded.samples, coded.payload) == (0, 0, b"")
    assert recordings.decode(codec, DIGEST, coded).shape == (0,)


def test_the_fewest_bits_are_chosen() -> None:
    codec = codec_of("fsq")
    silence = recordings.encode(codec, DIGEST, torch.zeros(32_000))
    assert len(silence.payload) < 20  # of 583 nominally: the same code over and over
    audio = speech(32_000)
    lengths = {name: len(recordings.encode(codec, DIGEST, audio, name).payload) for name in MODELS}
    chosen = recordings.encode(codec, DIGEST, audio)
    assert len(chosen.payload) == min(lengths.values()) == lengths[chosen.settings.model]


def test_audio_that_is_not_finite_is_refused() -> None:
    with pytest.raises(quantizers.QuantizerError, match="NaN or infinite"):
        recordings.encode(codec_of("fsq"), DIGEST, torch.full((4000,), torch.nan))


def test_a_codec_without_codes_is_refused() -> None:
    with pytest.raises(StreamError, match="quantizer 'none' has no codes"):
        recordings.encode(codec_of("none"), DIGEST, speech(100))


def test_other_weights_are_refused() -> None:
    codec = codec_of("fsq")
    coded = recordings.encode(codec, DIGEST, speech(1000))
    with pytest.raises(StreamError, match=r"coded with the weights 0123456789abcdef, and these are fe"):
        recordings.decode(codec, "sha256:" + "fe" * 32, coded)
    lying = dataclasses.replace(coded, factors=3)
    with pytest.raises(StreamError, match="does not fit the codec"):
        recordings.decode(codec, DIGEST, lying)


def test_layout_is_that_of_version_1() -> None:
    """Files that were written must be read by every later version: this layout never changes."""
    content = dataclasses.replace(CODED, payload=b"\x01\x02\x03").to_bytes()
    head = "cb697473" + "01" + "02" + "2b" + "0001020304050607"
    numbers = "807d" + "60" + "81f403" + "9b05" + "06" + "03"
    assert content[:-4].hex() == head + numbers + "010203"
    assert content[-4:].hex() == "8680d37a"  # CRC-32


@settings(deadline=None)
@given(
    sample_rate=st.integers(1, 192_000),
    hop=st.integers(1, 4096),
    frames=st.integers(0, 2**30),
    factors=st.integers(0, 300),
    content=st.binary(max_size=300),
    model_name=st.sampled_from(MODELS),
)
def test_every_header_comes_back(
    sample_rate: int, hop: int, frames: int, factors: int, content: bytes, model_name: str
) -> None:
    coded = CodedRecording(
        settings=Settings(model_name, 7, 2),
        identity=content[:8].ljust(8, b"x"),
        sample_rate=sample_rate,
        hop=hop,
        samples=frames * hop,
        frames=frames,
        factors=factors,
        payload=content,
    )
    assert CodedRecording.from_bytes(coded.to_bytes()) == coded


def test_every_cut_and_every_changed_byte_is_noticed() -> None:
    content = CODED.to_bytes()
    for length in range(len(content)):
        with pytest.raises(StreamError, match=r"cut short|not written by"):
            CodedRecording.from_bytes(content[:length])
    random = np.random.default_rng(0)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= int(random.integers(1, 256))
        with pytest.raises(StreamError):
            CodedRecording.from_bytes(bytes(changed))
    with pytest.raises(StreamError, match="5 bytes follow its end"):
        CodedRecording.from_bytes(content + b"extra")
    with pytest.raises(StreamError, match=r"version 3 .* reads versions 1 and 2"):
        CodedRecording.from_bytes(MAGIC + b"\x03" + content[5:])
