"""SoundStream: each layer against torch's convolutions, streams, sizes, and what cannot be."""

import copy

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import quantizers
from codec import backbones, model
from codec.backbones import SoundStreamBackbone, StreamMemory, causal_convolution
from codec.backbones.causal_convolution import CausalConvolution, CausalTransposedConvolution, ResidualUnit

SMALL = SoundStreamBackbone(strides=(4, 5, 2), width=8, groups=(1, 2), dilations=(1, 3), dim=6)
SLOPE = 0.3


@pytest.fixture(params=["products", "convolutions"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which layers compute: a CPU takes the first in float32, everything else the second."""
    monkeypatch.setattr(causal_convolution, "products_pay", lambda signal: request.param == "products")
    return request.param


class Padded(nn.Module):
    """The definition of a causal convolution: a leaky ReLU, zeros on the left, torch's convolution."""

    def __init__(self, convolution: nn.Conv1d, slope: float) -> None:
        super().__init__()
        self.convolution, self.slope = convolution, slope

    def forward(self, signal: Tensor) -> Tensor:
        (kernel,), (stride,) = self.convolution.kernel_size, self.convolution.stride
        active = functional.leaky_relu(signal, self.slope)
        return self.convolution(functional.pad(active, (kernel - stride, 0)))


class Cut(nn.Module):
    """The definition of a causal transposed convolution: torch's, without what is beyond the input."""

    def __init__(self, convolution: nn.ConvTranspose1d, slope: float) -> None:
        super().__init__()
        self.convolution, self.slope = convolution, slope

    def forward(self, signal: Tensor) -> Tensor:
        whole = self.convolution(functional.leaky_relu(signal, self.slope))
        return whole[..., : signal.shape[-1] * self.convolution.stride[0]]


class Unit(nn.Module):
    """The definition of a residual unit, of three convolutions."""

    def __init__(self, width: int, dilation: int, groups: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 3, dilation=dilation, groups=width)
        self.pointwise = nn.Conv1d(width, width, 1)
        self.grouped = nn.Conv1d(width, width, 1, groups=groups)
        self.before = 2 * dilation

    def forward(self, signal: Tensor) -> Tensor:
        active = functional.pad(functional.leaky_relu(signal, SLOPE), (self.before, 0))
        hidden = self.pointwise(self.depthwise(active))
        return signal + self.grouped(functional.leaky_relu(hidden, SLOPE))


def take(layer: nn.Module, peer: nn.Module) -> None:
    """Give `layer` the weights of `peer`."""
    layer.load_kernels({name.removeprefix("convolution."): value for name, value in peer.named_parameters()})


def assert_same(layer: nn.Module, peer: nn.Module, signal: Tensor) -> None:
    """Equal results, gradients of the signal [batch, steps, channels], and gradients of the weights.

    In float64: near the bend of a leaky ReLU rounding decides, and in float32 that shows.
    """
    layer, peer = layer.double(), peer.double()
    take(layer, peer)
    ours, theirs = (signal.double().requires_grad_() for _ in range(2))
    result, expected = layer(ours), peer(theirs.mT).mT
    torch.testing.assert_close(result, expected)
    direction = torch.cos(torch.arange(result.numel()).double()).view(result.shape)
    (result * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    gradients = copy.deepcopy(layer)
    with torch.no_grad():
        for value, parameter in zip(gradients.parameters(), layer.parameters(), strict=True):
            assert parameter.grad is not None
            value.copy_(parameter.grad)
    in_order = gradients.kernels()
    for name, parameter in peer.named_parameters():
        if name != "depthwise.bias":  # part of the pointwise one's
            found = in_order[name.removeprefix("convolution.")]
            torch.testing.assert_close(found, parameter.grad)


@pytest.mark.parametrize("slope", [1.0, SLOPE])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "groups"),
    [
        (1, 8, 16, 4, 1),
        (6, 8, 10, 5, 1),
        (8, 16, 4, 2, 2),
        (12, 8, 3, 1, 4),
        (8, 4, 1, 1, 1),
        (4, 6, 5, 5, 2),
    ],
)
def test_strided_convolutions(way, draw, inputs, outputs, kernel, stride, groups, slope) -> None:
    layer = CausalConvolution(inputs, outputs, kernel, stride, groups=groups, slope=slope)
    peer = Padded(nn.Conv1d(inputs, outputs, kernel, stride, groups=groups), slope)
    for blocks in (1, 7):
        assert_same(layer, peer, draw("signal", 3, blocks * stride, inputs))
        layer.zero_grad()
        peer.zero_grad()


@pytest.mark.parametrize("slope", [1.0, SLOPE])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "groups"),
    [(8, 1, 16, 4, 1), (8, 6, 10, 5, 1), (16, 8, 4, 2, 2), (8, 12, 2, 2, 4), (4, 4, 9, 3, 2)],
)
def test_transposed_convolutions(way, draw, inputs, outputs, kernel, stride, groups, slope) -> None:
    layer = CausalTransposedConvolution(inputs, outputs, kernel, stride, groups=groups, slope=slope)
    peer = Cut(nn.ConvTranspose1d(inputs, outputs, kernel, stride, groups=groups), slope)
    for steps in (1, 7):
        assert_same(layer, peer, draw("signal", 3, steps, inputs))
        layer.zero_grad()
        peer.zero_grad()


@pytest.mark.parametrize("steps", [1, 2, 5, 9, 40])  # shorter than the dilated kernel, and longer
@pytest.mark.parametrize(("dilation", "groups"), [(1, 1), (3, 2), (9, 4)])
def test_residual_units(way, draw, steps, dilation, groups) -> None:
    layer = ResidualUnit(8, kernel_size=3, dilation=dilation, groups=groups, slope=SLOPE)
    peer = Unit(8, dilation, groups)
    nn.init.zeros_(peer.depthwise.bias)
    assert_same(layer, peer, draw("signal", 2, steps, 8))


def test_a_depthwise_bias_becomes_part_of_the_pointwise_one(draw) -> None:
    layer, peer = ResidualUnit(8, kernel_size=3, dilation=1, groups=2, slope=SLOPE), Unit(8, 1, 2)
    take(layer, peer)
    assert peer.depthwise.bias.abs().max() > 0
    signal = draw("signal", 2, 9, 8)
    torch.testing.assert_close(layer(signal), peer(signal.mT).mT, atol=2e-5, rtol=1e-5)


def test_views_and_slices_of_signals_are_taken(draw) -> None:
    """A gradient or a signal that lies otherwise in memory is the same signal."""
    signal = draw("signal", 3, 8, 20)
    layers = [
        CausalConvolution(8, 8, 4, 2, groups=2, slope=SLOPE),
        CausalTransposedConvolution(8, 8, 4, 2, slope=SLOPE),
        ResidualUnit(8, kernel_size=3, dilation=3, groups=2, slope=SLOPE),
    ]
    for layer in layers:
        for view in (signal.mT, signal.mT[:, ::2], signal.mT[1:]):
            one = view.detach().requires_grad_()
            other = view.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
            for value in (one, other):
                layer(value).mT.square().sum().backward()
            torch.testing.assert_close(one.grad, other.grad)


def test_sizes_are_the_released_ones() -> None:
    backbone = backbones.get("soundstream")
    assert (backbone.hop, backbone.frame_rate, backbone.dim) == (320, 50, 64)
    encoder, decoder = backbone.build()
    # Published with 660,352 and 660,289: three units of 64, 128 and 256 channels have a bias more there.
    biases = 3 * (64 + 128 + 256)
    for network, published in ((encoder, 660_352), (decoder, 660_289)):
        assert sum(parameter.numel() for parameter in network.parameters()) == published - biases


@pytest.mark.parametrize("samples", [1, 39, 40, 41, 400])
def test_any_length_in_a_codec(way, draw, samples) -> None:
    codec = model.build(SMALL, lambda dim: quantizers.create("fsq", dim=dim, bits=12), seed=0).eval()
    audio = draw("audio", 2, samples)
    assert codec.features(audio).shape == (2, -(-samples // 40), 6)
    assert codec.reconstruct(audio).shape == audio.shape
    torch.testing.assert_close(codec.decode(codec.encode(audio))[:, :samples], codec.reconstruct(audio))


@pytest.mark.parametrize("pieces", [[1] * 12, [3, 1, 8], [12]])
def test_a_stream_in_pieces_gets_what_the_whole_clip_gets(way, draw, pieces) -> None:
    encoder, decoder = SMALL.build()
    audio = draw("audio", 3, 12 * SMALL.hop)
    with torch.no_grad():
        features = encoder(audio)
        whole = decoder(features)
        memories = StreamMemory(), StreamMemory()
        parts = [encoder(part, memories[0]) for part in audio.split([n * SMALL.hop for n in pieces], 1)]
        heard = [decoder(part, memories[1]) for part in torch.cat(parts, 1).split(pieces, 1)]
    torch.testing.assert_close(torch.cat(parts, 1), features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat(heard, 1), whole, atol=1e-5, rtol=1e-5)
    with torch.no_grad():  # a memory that is not empty matters
        assert not torch.allclose(encoder(audio, memories[0]), features)


def test_nothing_looks_ahead(way, draw) -> None:
    encoder, decoder = SMALL.build()
    audio = draw("audio", 1, 10 * SMALL.hop)
    other = audio.clone()
    other[:, 6 * SMALL.hop :] = draw("other", 1, 4 * SMALL.hop)
    with torch.no_grad():
        one, two = encoder(audio), encoder(other)
        assert torch.equal(one[:, :6], two[:, :6])
        assert not torch.equal(one[:, 6], two[:, 6])
        assert torch.equal(decoder(one)[:, : 6 * SMALL.hop], decoder(two)[:, : 6 * SMALL.hop])


def test_every_parameter_receives_a_gradient(way, draw) -> None:
    codec = model.build(SMALL, lambda dim: quantizers.create("none", dim=dim), seed=0)
    codec(draw("audio", 2, 800)).audio.square().mean().backward()
    unmoved = [name for name, value in codec.named_parameters() if value.grad is None or not value.grad.any()]
    assert unmoved == []


def test_both_ways_have_the_same_gradients(draw, monkeypatch) -> None:
    codec = model.build(SMALL, lambda dim: quantizers.create("none", dim=dim), seed=0)
    audio, direction = draw("audio", 2, 7 * SMALL.hop), draw("direction", 2, 7 * SMALL.hop)
    assert causal_convolution.products_pay(audio)
    gradients = []
    for pays in (True, False):
        monkeypatch.setattr(causal_convolution, "products_pay", lambda signal, pays=pays: pays)
        codec.zero_grad()
        given = audio.clone().requires_grad_()
        (codec(given).audio * direction).sum().backward()
        gradients.append([given.grad, *(parameter.grad for parameter in codec.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() < 1e-3 * other.norm()


def test_frozen_weights_pass_the_gradient_on(way, draw) -> None:
    codec = model.build(SMALL, lambda dim: quantizers.create("none", dim=dim), seed=0)
    features = draw("features", 2, 9, 6)
    gradients = []
    for frozen in (False, True):
        codec.decoder.requires_grad_(not frozen)
        codec.zero_grad()
        given = features.clone().requires_grad_()
        codec.decoder(given).square().sum().backward()
        gradients.append(given.grad)
        assert all((parameter.grad is None) == frozen for parameter in codec.decoder.parameters())
    assert torch.equal(*gradients)


def test_only_float32_on_a_cpu_is_left_to_products(draw) -> None:
    signal = draw("signal", 1, 4, 2)
    assert causal_convolution.products_pay(signal)
    assert not causal_convolution.products_pay(signal.double())
    assert not causal_convolution.products_pay(signal.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not causal_convolution.products_pay(signal)


def test_new_weights_keep_sounds_apart_and_begin_softly(draw) -> None:
    backbone = backbones.get("soundstream")
    torch.manual_seed(0)
    encoder, decoder = backbone.build()
    audio = 0.05 * draw("audio", 2, 20 * backbone.hop)
    with torch.no_grad():
        features = encoder(audio)
        reconstruction = decoder(features)
    constant = features.mean(dim=(0, 1)).square().mean()  # what is the same whatever is said
    assert constant < 0.1 * features.var(dim=(0, 1)).mean()
    assert 0.01 < features.std() < 1
    assert 0 < reconstruction.std() < audio.std()


def test_bfloat16_autocast_stays_near_float32(draw) -> None:
    codec = model.build(SMALL, lambda dim: quantizers.create("none", dim=dim), seed=0)
    audio = draw("audio", 2, 20 * SMALL.hop)
    expected = codec(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = codec(audio)
    assert output.audio.dtype == output.quantized.features.dtype == torch.float32
    error = (output.audio - expected.audio).norm() / expected.audio.norm()
    assert 0 < error < 0.03  # bfloat16 has 8 bits of precision, and there are 25 layers
    gradients = []
    for result in (expected, output):
        codec.zero_grad()
        result.audio.square().mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in codec.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 0.1 * gradients[0].norm()


def test_compiled_layers_are_the_convolutions(draw) -> None:
    encoder, _ = SMALL.build()
    audio = draw("audio", 1, 3 * SMALL.hop)
    with torch.no_grad():
        expected = encoder(audio)
        torch._dynamo.reset()
        compiled = torch.compile(encoder, backend="aot_eager")(audio)
    torch.testing.assert_close(compiled, expected, atol=1e-5, rtol=1e-5)


def test_a_codec_of_any_width_learns(draw) -> None:
    """Twenty steps on one batch: the error falls well below that of silence."""
    codec = model.build(SMALL, lambda dim: quantizers.create("none", dim=dim), seed=0)
    time = torch.arange(1600) / 16_000
    audio = 0.3 * torch.stack([torch.sin(2 * torch.pi * pitch * time) for pitch in (110, 150, 220, 300)])
    optimizer = torch.optim.AdamW(codec.parameters(), lr=3e-3)
    for _ in range(60):
        loss = (codec(audio).audio - audio).square().mean() / audio.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5


def test_weights_are_taken_and_given_in_torchs_order() -> None:
    (encoder, decoder), (other, _) = SMALL.build(), SMALL.build()
    other.load_kernels(encoder.kernels())
    for mine, given in zip(other.parameters(), encoder.parameters(), strict=True):
        assert torch.equal(mine, given)
    with pytest.raises(backbones.BackboneError, match=r"stem\.weight is absent.*expected"):
        encoder.load_kernels({name: v for name, v in encoder.kernels().items() if name != "stem.weight"})
    with pytest.raises(backbones.BackboneError, match="do not fit this SoundStreamDecoder"):
        decoder.load_kernels(encoder.kernels())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"strides": [320]}, "at least two"),
        ({"strides": [16, 5, 2, 0]}, "strides must be a list of positive integers"),
        ({"strides": 320}, "strides must be a list of positive integers"),
        ({"strides": [16, 5, 4]}, "3 strides make 2 stages"),
        ({"groups": [1, 2, 3]}, "3 groups do not divide the 256 channels of stage 3"),
        ({"dilations": []}, "dilations must be a list of positive integers"),
        ({"width": 2, "groups": [1, 2, 16]}, "do not divide the 8 channels"),
        ({"dim": 30}, "dim must be a multiple of the last groups, 4"),
        ({"width": 0}, "width must be a positive integer"),
        ({"stride": [8]}, "did you mean 'strides'"),
    ],
)
def test_impossible_backbones(overrides, message) -> None:
    with pytest.raises(backbones.BackboneError, match=message):
        backbones.get("soundstream", overrides)


def test_other_sizes_work() -> None:
    backbone = backbones.get("soundstream", {"strides": [8, 4, 2], "groups": [1, 2], "width": 16, "dim": 12})
    codec = model.build(backbone, lambda dim: quantizers.create("q2d2-hex", dim=dim, bits=19), seed=0)
    assert codec.frame_rate == 250
    assert codec.reconstruct(torch.randn(1, 1000)).shape == (1, 1000)
