from collections.abc import Callable

import pytest
import torch

import quantizers
from codec import backbones, model
from codec.model import Codec

SEVEN = ("none", "vq", "rvq", "fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic")


def make(name: str, seed: int = 0) -> Codec:
    backbone = backbones.get("mdct-tiny", {"width": 16, "blocks": 1})
    bits = {} if name == "none" else {"bits": 19.1}
    return model.build(backbone, lambda dim: quantizers.create(name, dim=dim, **bits), seed)


@pytest.mark.parametrize("samples", [1, 95, 96, 97, 1_000])
@pytest.mark.parametrize("name", ["none", "vq", "q2d2-hex"])
def test_a_reconstruction_is_as_long_as_the_audio(name: str, samples: int) -> None:
    codec = make(name).eval()
    audio = 0.1 * torch.randn(2, samples)
    assert codec.reconstruct(audio).shape == audio.shape


@pytest.mark.parametrize("name", SEVEN[1:])
def test_codes_alone_decode_to_the_reconstruction(name: str) -> None:
    codec = make(name).eval()
    audio = 0.1 * torch.randn(2, 960)
    codes = codec.encode(audio)
    assert codes.dtype == torch.int64
    assert codes.shape == (2, 11, codec.quantizer.streams)
    assert torch.equal(codec.decode(codes), codec.reconstruct(audio))


def test_rates_follow_from_the_live_quantizer() -> None:
    codec = make("vq")
    assert codec.frame_rate == pytest.approx(16_000 / 96)
    assert codec.token_rate == pytest.approx(2 * codec.frame_rate)
    assert codec.bitrate == pytest.approx(codec.frame_rate * codec.quantizer.bits_per_frame)


def test_every_bottleneck_starts_from_the_same_backbone() -> None:
    reference = make("none")
    for name in SEVEN[1:]:
        other = make(name)
        for part in ("encoder", "decoder"):
            mine, theirs = other.get_submodule(part).state_dict(), reference.get_submodule(part).state_dict()
            assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    different = make("none", seed=1).encoder.state_dict()
    assert not torch.equal(
        different["project_in.weight"], reference.encoder.state_dict()["project_in.weight"]
    )


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    make("vq")
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: backbones.get("mdct-tinny"), "did you mean 'mdct-tiny'"),
        (lambda: backbones.get("mdct-tiny", {"widht": 3}), "did you mean 'width'"),
        (lambda: backbones.get("mdct-tiny", {"hop": 0}), "hop must be a positive integer"),
    ],
)
def test_errors_say_what_to_change(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(backbones.BackboneError, match=words):
        ask()
