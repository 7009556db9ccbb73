"""Folding and packing for inference change nothing that can be heard."""

import pytest
import torch
from torch import nn

import quantizers
from codec import backbones, inference, model

SMALL = backbones.WavTokenizerBackbone(
    strides=(5, 4, 2), encoder_width=4, dim=16, width=32, hidden=48, blocks=2, conditions=3
)


@pytest.mark.parametrize("backbone", [SMALL, backbones.get("mdct-tiny")], ids=["wavtokenizer", "mdct"])
def test_preparing_changes_nothing_but_speed(backbone, draw) -> None:
    codec = model.build(backbone, lambda dim: quantizers.create("fsq", dim=dim, levels=(5, 5, 5)), seed=0)
    codec.eval()
    audio = 0.5 * draw("audio", 2, 2000)
    codes = codec.encode(audio)
    expected = codec.decode(codes)
    assert inference.prepare(codec) is codec
    torch.testing.assert_close(codec.decode(codes), expected, atol=1e-5, rtol=1e-5)
    assert (codec.encode(audio) == codes).float().mean() > 0.99  # all but those at an edge
    assert not any(parameter.requires_grad for parameter in codec.parameters())


def test_a_packed_layer_multiplies_as_before(draw) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    for bias in (True, False):
        layer = nn.Linear(24, 40, bias=bias)
        packed = inference.PackedLinear(layer)
        for shape in ((1, 1, 24), (3, 7, 24), (5, 24)):
            frames = draw("frames", *shape)
            torch.testing.assert_close(packed(frames), layer(frames), atol=1e-5, rtol=1e-5)


def test_the_quantizer_stays_as_it_is() -> None:
    codec = model.build(SMALL, lambda dim: quantizers.create("fsq", dim=dim, levels=(5, 5, 5)), seed=0)
    inference.prepare(codec)
    packed = [name for name, layer in codec.named_modules() if isinstance(layer, inference.PackedLinear)]
    assert any(name.startswith("decoder.convnext") for name in packed)
    assert not any(name.startswith("quantizer") for name in packed)
