"""SEANet encoder and Vocos decoder: sizes, edges, and what each layer promises."""

import math

import pytest
import torch
from torch import nn

import quantizers
from codec import backbones, model
from codec.backbones.seanet import EdgeConv1d, SEANetEncoder, elu
from codec.backbones.vocos import InverseSTFT, VocosDecoder
from codec.reflection import reflect
from codec.weight_norm import fold_weight_norm

SMALL = backbones.WavTokenizerBackbone(
    strides=(5, 4, 2), encoder_width=4, dim=16, width=32, hidden=48, blocks=2, conditions=3
)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def codec() -> model.Codec:
    return model.build(SMALL, lambda dim: quantizers.create("none", dim=dim), seed=0).eval()


@pytest.mark.parametrize(
    ("name", "strides", "hop", "encoder", "head"),
    [
        ("wavtokenizer-75", (8, 5, 4, 2), 320, 8_802_816, 985_858),
        ("wavtokenizer-40", (6, 5, 5, 4), 600, 8_303_104, 1_847_138),
        ("wavtokenizer-53", (6, 5, 5, 3), 450, 8_299_008, 1_385_738),
        ("wavtokenizer-167", (6, 4, 3, 2), 144, 8_196_608, 444_482),
        ("wavtokenizer-333", (6, 4, 3, 1), 72, 8_192_512, 223_010),
    ],
)
def test_parameters_are_those_of_the_released_models(name, strides, hop, encoder, head) -> None:
    backbone = backbones.get(name, {"conditions": 4})
    assert (backbone.strides, backbone.hop, backbone.dim) == (strides, hop, 512)
    assert backbone.frame_rate == pytest.approx(24_000 / hop)
    assert name.endswith(f"-{backbone.frame_rate:.0f}")
    with torch.device("meta"):
        built = backbone.build()
    assert parameters(built[0]) == encoder
    assert parameters(built[1].project_out) == head
    assert parameters(built[1]) - head == 61_961_472


def test_parameters_of_each_part() -> None:
    with torch.device("meta"):
        encoder, decoder = SEANetEncoder(), VocosDecoder(conditions=4)
    assert parameters(encoder.stem) == 288
    assert [parameters(stage.residual) for stage in encoder.stages] == [3_232, 12_608, 49_792, 197_888]
    assert [parameters(stage.down) for stage in encoder.stages] == [8_320, 65_792, 328_192, 2_098_176]
    assert (parameters(encoder.lstm), parameters(encoder.project_out)) == (4_202_496, 1_836_032)
    assert parameters(decoder.embed) == 2_753_280
    assert parameters(decoder.context) == 16_539_648
    assert parameters(decoder.norm_in) == 6_144
    assert parameters(decoder.convnext) == 42_660_864
    assert parameters(decoder.norm_out) == 1_536


@pytest.mark.parametrize("samples", [1, 2, 3, 7, 39, 40, 41, 79, 1000, 1003])
def test_any_length(codec, draw, samples) -> None:
    audio = draw("audio", 2, samples)
    with torch.no_grad():
        features = codec.features(audio)
    assert features.shape == (2, math.ceil(samples / codec.hop), codec.quantizer.dim)
    reconstruction = codec.reconstruct(audio)
    assert reconstruction.shape == audio.shape
    assert reconstruction.isfinite().all()


def test_a_batch_gives_what_its_rows_give(codec, draw) -> None:
    audio = draw("audio", 3, 1003)
    rows = torch.cat([codec.reconstruct(row[None]) for row in audio])
    torch.testing.assert_close(codec.reconstruct(audio), rows, atol=1e-5, rtol=0)


def test_silence_stays_finite(codec) -> None:
    audio = torch.zeros(1, 400, requires_grad=True)
    codec(audio).audio.square().mean().backward()
    assert audio.grad.isfinite().all()


@pytest.mark.parametrize(("length", "left", "right"), [(9, 3, 4), (5, 4, 4), (4, 3, 3), (6, 0, 2), (6, 0, 0)])
def test_long_signals_are_reflected(draw, length, left, right) -> None:
    signal = draw("signal", 1, 2, length)
    expected = torch.nn.functional.pad(signal, (left, right), mode="reflect") if left or right else signal
    assert torch.equal(reflect(signal, left, right), expected)


def test_short_signals_are_reflected_after_zeros() -> None:
    signal = torch.tensor([[[1.0, 2.0]]])
    # Followed by two zeros, 1 2 0 0, and mirrored by 3: 0 0 2 | 1 2 0 0 | 0 2 1, less two zeros at the end.
    assert reflect(signal, 3, 3).tolist() == [[[0, 0, 2, 1, 2, 0, 0, 0]]]


def test_elu_and_its_gradient() -> None:
    values = torch.cat((torch.linspace(-30, 5, 1001), torch.tensor([0.0, -1e-9, -1e30, 1e30])))
    exact = values.double().requires_grad_(True)
    fast = values.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(torch.nn.functional.elu(exact).sum(), exact)
    (gradient,) = torch.autograd.grad(elu(fast).sum(), fast)
    torch.testing.assert_close(elu(values), torch.nn.functional.elu(values), atol=2e-7, rtol=0)
    torch.testing.assert_close(gradient.double(), expected, atol=2e-7, rtol=0)


@pytest.mark.parametrize(("kernel", "stride"), [(7, 1), (4, 2), (10, 5), (6, 3), (1, 1), (2, 1)])
@pytest.mark.parametrize("length", [1, 4, 5, 11, 30])
def test_a_convolution_gives_a_frame_for_each_begun_stride(kernel, stride, length) -> None:
    frames = EdgeConv1d(1, 2, kernel, stride)(torch.randn(1, 1, length)).shape[-1]
    assert frames == math.ceil(length / stride)


def test_inverse_stft_inverts_within_full_coverage(draw) -> None:
    hop, frames = 20, 50
    audio = draw("audio", 2, hop * frames)
    inverse = InverseSTFT(hop)
    padded = torch.nn.functional.pad(audio, (hop * 3 // 2, hop * 3 // 2))
    spectrum = torch.stft(padded, 4 * hop, hop, window=inverse.window, center=False, return_complex=True)
    result = inverse(spectrum.mT)
    assert result.shape == audio.shape
    torch.testing.assert_close(result, audio, atol=1e-4, rtol=0)


def test_large_magnitudes_are_limited_and_keep_gradients_finite() -> None:
    torch.manual_seed(0)
    decoder = VocosDecoder(hop=20, dim=8, width=32, hidden=32, blocks=1)
    with torch.no_grad():
        decoder.project_out.bias[: 2 * 20 + 1] = 200.0
    audio = decoder(torch.randn(1, 6, 8))
    audio.square().mean().backward()
    assert audio.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())


def test_folding_changes_nothing_but_the_parameters(codec, draw) -> None:
    audio = draw("audio", 1, 1000)
    before, count = codec.reconstruct(audio), parameters(codec)
    magnitudes = sum(p.numel() for name, p in codec.named_parameters() if name.endswith("original0"))
    assert fold_weight_norm(codec) is codec
    torch.testing.assert_close(codec.reconstruct(audio), before, atol=1e-5, rtol=0)
    assert magnitudes > 0
    assert parameters(codec) == count - magnitudes


def test_training_draws_a_condition_and_evaluation_takes_the_first(codec, draw) -> None:
    decoder, features = codec.decoder, draw("features", 1, 9, 16)
    with torch.no_grad():
        decoder.norm_in.weight[1:] = 3.0
        first = decoder(features)
        assert torch.equal(decoder(features), first)
        for layer in decoder.modules():
            layer.training = not isinstance(layer, nn.Dropout)
        drawn = [torch.equal(decoder(features), first) for _ in range(40)]
    assert any(drawn)
    assert not all(drawn)


@pytest.mark.parametrize("name", ["wavtokenizer-small", "wavtokenizer-75"])
def test_features_tell_sounds_apart_from_the_start(name: str, draw) -> None:
    backbone = backbones.get(name)
    torch.manual_seed(0)
    encoder, _ = backbone.build()
    with torch.no_grad():
        features = encoder(0.05 * draw("audio", 2, 20 * backbone.hop))
    constant = features.mean(dim=(0, 1)).square().mean()  # what is the same whatever is said
    assert constant < 0.1 * features.var(dim=(0, 1)).mean()
    assert features.std() > 0.01  # far above the epsilon of the decoder's normalisations


def test_every_parameter_receives_a_gradient(draw) -> None:
    codec = model.build(SMALL, lambda dim: quantizers.create("none", dim=dim), seed=0)
    codec(draw("audio", 2, 800)).audio.square().mean().backward()
    unmoved = [name for name, value in codec.named_parameters() if value.grad is None or not value.grad.any()]
    assert unmoved == []


def test_bfloat16_autocast_gives_float32_audio(codec, draw) -> None:
    audio = draw("audio", 1, 800)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        features = codec.features(audio)
        reconstruction = codec.decoder(features)
    assert features.dtype == reconstruction.dtype == torch.float32
    assert reconstruction.isfinite().all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"strides": [3, 5]}, "even"),
        ({"strides": 8}, "list of positive integers"),
        ({"strides": [8, 0]}, "list of positive integers"),
        ({"strides": []}, "list of positive integers"),
        ({"width": 100}, "multiple of 32"),
        ({"blocks": 0}, "blocks must be a positive integer"),
        ({"encoder_width": 5}, "encoder_width must be even"),
        ({"conditions": -1}, "conditions"),
        ({"dropout": 1.0}, "dropout"),
        ({"stride": [8]}, "did you mean 'strides'"),
    ],
)
def test_impossible_backbones(overrides, message) -> None:
    with pytest.raises(backbones.BackboneError, match=message):
        backbones.get("wavtokenizer-75", overrides)
