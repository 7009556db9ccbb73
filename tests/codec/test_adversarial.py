"""Discriminators, adversarial losses and objectives, against what the released WavTokenizer code computes."""

import dataclasses

import pytest
import torch
import torch.nn.functional as functional
import torchaudio
from torch import Tensor, nn

import quantizers
from codec import backbones, model
from codec.losses import objectives
from codec.losses.adversarial import HINGE, LEAST_SQUARES, Adversary, AdversaryError, feature_matching
from codec.losses.discriminators import (
    DACDiscriminators,
    PeriodDiscriminator,
    _convolve,
    multi_period,
    multi_resolution,
)
from codec.losses.log_mel import LogMelLoss
from codec.losses.objectives import Losses, Objective, ObjectiveError
from codec.losses.spectral import Scale
from codec.losses.time_convolution import TimeConvolution, convolutions
from codec.model import CodecOutput
from codec.weight_norm import fold_weight_norm
from quantizers import Quantized


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def set_weights(module: nn.Module, name: str, draw) -> None:
    """Weights by position, in the order bias, magnitude, direction, as the released layers have them."""
    for number, parameter in enumerate(module.parameters()):
        value = draw(f"{name}.{number}", *parameter.shape)
        if parameter.ndim == 3:  # [outputs, kernel, inputs], released as [outputs, inputs, kernel]
            outputs, kernel, inputs = parameter.shape
            value = value.view(outputs, inputs, kernel).mT.contiguous()
        magnitude = parameter.ndim > 1 and parameter[0].numel() == 1
        parameter.data = 1.5 + 0.2 * value if magnitude else value * (0.1 if parameter.ndim == 1 else 1)


def output(audio: Tensor, loss: float = 0.0) -> CodecOutput:
    nothing = torch.zeros(1, 1, 0)
    return CodecOutput(audio, Quantized(nothing, nothing.long(), torch.tensor(loss), {}), nothing)


@pytest.fixture(scope="module")
def losses(draw) -> Losses:
    """The objective of WavTokenizer, with known weights."""
    built = Losses(objectives.get("wavtokenizer"), 24_000)
    for name, family in built.adversary.families.items():
        set_weights(family, name, draw)
    return built


@pytest.fixture
def pair(draw) -> tuple[Tensor, Tensor]:
    """A reference and a reconstruction, two rows of each."""
    reference = 0.3 * draw("reference", 2, 1320)
    return reference, reference + 0.1 * draw("noise", 2, 1320)


def test_parameters_are_those_of_the_released_discriminators() -> None:
    # Released: 41,126,250 and 600,966, with embeddings of 4 conditions that all stand for the same thing.
    with torch.device("meta"):
        assert parameters(multi_period()) == 41_126_250 - 5 * 4 * 1024
        assert parameters(multi_resolution()) == 600_966 - 3 * 4 * 64
        assert parameters(DACDiscriminators()) == 42_519_760


# By the public code of WavTokenizer (commit 5cf440d), with the weights of `losses` and the audio of `pair`.
RELEASED_DISCRIMINATOR_LOSSES = {"multi_period": 2.003499, "multi_resolution": 4.972434, "dac": 858.3529}
RELEASED_GENERATOR_LOSSES = {
    "log_mel": 7.114657,
    "quantizer": 0.0,
    "adversarial/multi_period": 0.8383212,
    "features/multi_period": 0.2119189,
    "adversarial/multi_resolution": 2.113877,
    "features/multi_resolution": 3.82203,
    "adversarial/dac": 349.2402,
    "features/dac": 155.9645,
}
RELEASED_GRADIENT_NORM = 917.0722


def test_losses_are_those_of_the_released_code(losses, pair) -> None:
    reference, reconstruction = pair
    terms = losses.discriminator(reconstruction, reference, step=0)
    released = {f"discriminator/{name}": value for name, value in RELEASED_DISCRIMINATOR_LOSSES.items()}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(released, rel=1e-4)
    reconstruction.requires_grad_(True)
    terms = losses.generator(output(reconstruction), reference, step=0)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        RELEASED_GENERATOR_LOSSES, rel=1e-4
    )
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), reconstruction)
    assert gradient.norm().item() == pytest.approx(RELEASED_GRADIENT_NORM, rel=1e-3)


def test_every_declared_parameter_receives_a_gradient(losses, pair) -> None:
    """The released DAC discriminator was in no optimizer."""
    reference, reconstruction = pair
    losses.zero_grad()
    with torch.no_grad():  # between the hinge's corners, real and fake cancel in the last bias
        biases = [p for name, p in losses.named_parameters() if name.endswith("score.bias")]
        for bias in biases:
            bias += 3.0
    torch.stack(list(losses.discriminator(reconstruction, reference, step=0).values())).sum().backward()
    unmoved = [
        name
        for name, parameter in losses.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    losses.zero_grad()
    with torch.no_grad():
        for bias in biases:
            bias -= 3.0
    assert biases
    assert unmoved == []


def test_each_side_gets_its_own_gradients_only(losses, pair) -> None:
    reference, reconstruction = pair
    reconstruction.requires_grad_(True)
    losses.zero_grad()
    torch.stack(list(losses.discriminator(reconstruction, reference, step=0).values())).sum().backward()
    assert reconstruction.grad is None
    losses.zero_grad()
    terms = losses.generator(output(reconstruction), reference, step=0)
    torch.stack(list(terms.values())).sum().backward()
    assert reconstruction.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in losses.adversary.parameters())
    assert all(parameter.requires_grad for parameter in losses.adversary.parameters())
    losses.zero_grad()


def test_discriminators_wait_for_their_start(pair) -> None:
    reference, reconstruction = pair
    late = Losses(Objective(log_mel=1.0, multi_resolution=1.0, discriminator_start=5), 24_000)
    assert late.discriminator(reconstruction, reference, step=4) == {}
    assert set(late.generator(output(reconstruction), reference, step=4)) == {"log_mel", "quantizer"}
    assert set(late.discriminator(reconstruction, reference, step=5)) == {"discriminator/multi_resolution"}
    expected = {"log_mel", "quantizer", "adversarial/multi_resolution"}
    assert set(late.generator(output(reconstruction), reference, step=5)) == expected


def test_weights_scale_their_terms(draw) -> None:
    reference, reconstruction = 0.3 * draw("reference", 1, 1320), 0.3 * draw("other", 1, 1320)
    terms = []
    for factor in (1.0, 3.0):
        torch.manual_seed(0)
        adversary = Adversary({"multi_resolution": factor}, {"multi_resolution": 2 * factor})
        with torch.no_grad():
            terms.append(
                adversary(reference, reconstruction) | adversary.generator_losses(reference, reconstruction)
            )
    assert set(terms[0]) == {
        "discriminator/multi_resolution",
        "adversarial/multi_resolution",
        "features/multi_resolution",
    }
    for name, value in terms[0].items():
        torch.testing.assert_close(terms[1][name], 3 * value, rtol=1e-5, atol=0)


def test_an_identical_reconstruction_matches_all_features(losses, pair) -> None:
    reference, _ = pair
    with torch.no_grad():
        terms = losses.generator(output(reference), reference, step=0)
    for name in ("log_mel", "features/multi_period", "features/multi_resolution", "features/dac"):
        assert terms[name].item() == pytest.approx(0, abs=1e-4), name


def test_criteria() -> None:
    scores = torch.tensor([-2.0, 0.0, 0.5, 3.0])
    assert HINGE.real(scores).item() == pytest.approx((3 + 1 + 0.5 + 0) / 4)
    assert HINGE.fake(scores).item() == pytest.approx((0 + 1 + 1.5 + 4) / 4)
    assert HINGE.fooled(scores).item() == pytest.approx((3 + 1 + 0.5 + 0) / 4)
    assert LEAST_SQUARES.real(scores).item() == pytest.approx((9 + 1 + 0.25 + 4) / 4)
    assert LEAST_SQUARES.fake(scores).item() == pytest.approx((4 + 0 + 0.25 + 9) / 4)
    assert LEAST_SQUARES.fooled(scores).item() == pytest.approx((9 + 1 + 0.25 + 4) / 4)


def test_feature_matching_sums_maps_and_averages_discriminators() -> None:
    real = [[torch.zeros(2, 3), torch.zeros(4)], [torch.zeros(5)]]
    fake = [[torch.full((2, 3), -1.0), torch.full((4,), 2.0)], [torch.full((5,), 5.0)]]
    assert feature_matching(real, fake).item() == pytest.approx((1 + 2 + 5) / 2)


@pytest.mark.parametrize(
    ("length", "always_pad", "second"), [(9, False, None), (9, True, [8, 7, 6]), (10, False, [10, 9, 8])]
)
def test_periods_are_folded_in_order(length, always_pad, second) -> None:
    """A layer that copies the middle of its window shows every third step of each column."""
    discriminator = fold_weight_norm(PeriodDiscriminator(3, first_map=True, always_pad=always_pad))
    with torch.no_grad():
        for parameter in discriminator.layers[0].parameters():
            parameter.zero_()
        discriminator.layers[0].weight[:, 2] = 1
        shown = discriminator(torch.arange(1.0, length + 1)[None])[0]
    assert shown.shape == (1, 32, 2 if second else 1, 3)
    assert shown[0, 5].tolist() == [[1, 2, 3], *([second] if second else [])]


@pytest.mark.parametrize("steps", [1, 2, 3, 17, 100, 101, 102])
def test_products_are_the_convolutions(steps) -> None:
    """Outputs and gradients, beside torch's convolution."""
    torch.manual_seed(0)
    shapes = ((1, 8, 5, 3), (8, 16, 5, 3), (16, 16, 5, 1), (16, 1, 3, 1))
    layers = [TimeConvolution(*shape) for shape in shapes]
    signal = torch.randn(4, steps, 1, requires_grad=True)
    results, expected, value = convolutions(layers, signal, 0.1), [], signal
    for layer in layers:
        value = layer(value)
        value = value if layer is layers[-1] else functional.leaky_relu(value, 0.1)
        expected.append(value)
    variables = [signal, *(parameter for layer in layers for parameter in layer.parameters())]
    given = [torch.randn_like(result) for result in results]
    gradients = [torch.autograd.grad(outputs, variables, given) for outputs in (results, expected)]
    torch.testing.assert_close(results, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_autocast_takes_the_same_convolutions_in_bfloat16() -> None:
    torch.manual_seed(0)
    layers = [TimeConvolution(1, 8, 5, 3), TimeConvolution(8, 1, 3)]
    signal = torch.randn(2, 40, 1)
    with torch.no_grad():
        expected = convolutions(layers, signal, 0.1)
        with torch.autocast("cpu", torch.bfloat16):
            halved = convolutions(layers, signal, 0.1)
    assert all(result.dtype == torch.bfloat16 for result in halved)
    torch.testing.assert_close([r.float() for r in halved], expected, rtol=0.05, atol=0.02)


def test_one_channel_is_convolved_as_by_torch() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 4, (7, 5), (2, 2), padding=(3, 2))
    signal = torch.randn(2, 1, 33, 12)
    torch.testing.assert_close(_convolve(layer, signal), layer(signal), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("columns", [1, 2])
def test_one_column_is_convolved_as_by_torch(columns: int) -> None:
    layer = nn.Conv2d(3, 4, (5, 3), (2, 2), (2, 1)).double()
    signal = torch.randn(2, 3, 9, columns, dtype=torch.float64)
    torch.testing.assert_close(_convolve(layer, signal), layer(signal))


def test_in_bfloat16_short_audio_gives_the_same_whatever_memory_holds() -> None:
    torch.manual_seed(0)
    family = multi_resolution(width=0.05)
    audio = 0.1 * torch.randn(2, 4000)
    first: list[Tensor] | None = None
    for number in range(10):
        garbage = [torch.full((2**size,), float("nan")) for size in range(6, 20)]
        garbage.append(torch.full((1000 + number,), 1e30))
        del garbage
        with torch.autocast("cpu", torch.bfloat16):
            maps = [each.float() for maps in family(audio) for each in maps]
        first = first or maps
        for mine, theirs in zip(maps, first, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_log_mel_is_that_of_torchaudio(draw) -> None:
    transform = torchaudio.transforms.MelSpectrogram(24_000, 1024, hop_length=256, n_mels=100, power=1)
    audio, other = draw("audio", 2, 3000), 0.5 * draw("other", 2, 3000)
    expected = (transform(audio).clamp_min(1e-7).log() - transform(other).clamp_min(1e-7).log()).abs().mean()
    torch.testing.assert_close(LogMelLoss(24_000)(audio, other), expected, rtol=1e-4, atol=0)
    silence = torch.zeros(1, 3000, requires_grad=True)
    LogMelLoss(24_000)(silence, audio[:1]).backward()
    assert silence.grad.isfinite().all()


def test_log_mel_averages_its_scales(draw) -> None:
    audio, other = draw("audio", 2, 3000), 0.5 * draw("other", 2, 3000)
    scales = (Scale(1024, 256, 80), Scale(256, 64, 40))
    single = [LogMelLoss(16_000, [scale])(audio, other) for scale in scales]
    torch.testing.assert_close(LogMelLoss(16_000, scales)(audio, other), (single[0] + single[1]) / 2)


def test_wrong_audio_is_explained(losses) -> None:
    with pytest.raises(AdversaryError, match="at least 1025"):
        losses.adversary(torch.zeros(1, 1024), torch.zeros(1, 1024))
    with pytest.raises(AdversaryError, match="differ"):
        losses.adversary(torch.zeros(1, 2000), torch.zeros(1, 1900))
    with pytest.raises(AdversaryError, match="unknown discriminators 'mpd'"):
        Adversary({"mpd": 1.0}, {})


def test_presets() -> None:
    spectral, vocos, wavtokenizer = (objectives.get(name) for name in ("spectral", "vocos", "wavtokenizer"))
    assert not spectral.adversarial
    assert Losses(spectral, 16_000).adversary is None
    assert set(Losses(vocos, 24_000).adversary.families) == {"multi_period", "multi_resolution"}
    assert (wavtokenizer.log_mel, wavtokenizer.quantizer, wavtokenizer.dac) == (45.0, 1000.0, 8.0)
    changed = objectives.get("vocos", {"log_mel": 15.0, "log_mel_scales": [[512, 128, 40]]})
    assert changed == dataclasses.replace(vocos, log_mel=15.0, log_mel_scales=(Scale(512, 128, 40),))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("vocoss", {}, "did you mean 'vocos'"),
        ("vocos", {"logmel": 1.0}, "did you mean 'log_mel'"),
        ("vocos", {"dac": -1.0}, "dac must be"),
        ("vocos", {"dac": float("nan")}, "dac must be"),
        ("vocos", {"dac": True}, "dac must be"),
        ("vocos", {"log_mel": 0.0}, "mel, complex or log_mel"),
        ("vocos", {"log_mel_scales": [1024]}, "triples"),
        ("vocos", {"log_mel_scales": []}, "triples"),
        ("vocos", {"discriminator_start": -1}, "discriminator_start"),
        ("vocos", {"discriminator_width": 0.0}, "discriminator_width must be above 0"),
    ],
)
def test_impossible_objectives(name, overrides, message) -> None:
    with pytest.raises(ObjectiveError, match=message):
        objectives.get(name, overrides)


def test_a_small_codec_trains_against_its_adversary(draw) -> None:
    backbone = backbones.WavTokenizerBackbone(
        strides=(5, 4, 2), encoder_width=4, dim=16, width=32, hidden=48, blocks=1
    )
    codec = model.build(backbone, lambda dim: quantizers.create("fsq", dim=dim, levels=(5, 5, 5)), seed=0)
    torch.manual_seed(0)
    losses = Losses(Objective(log_mel=45.0, multi_resolution=1.0, multi_resolution_features=1.0), 24_000)
    optimizers = [torch.optim.AdamW(part.parameters(), lr=1e-3) for part in (codec, losses.adversary)]
    reference = 0.3 * draw("reference", 2, 2000)
    mel = []
    for step in range(15):
        result = codec(reference)
        terms = losses.discriminator(result.audio, reference, step)
        optimizers[1].zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizers[1].step()
        terms = losses.generator(result, reference, step)
        optimizers[0].zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizers[0].step()
        mel.append(terms["log_mel"].item())
    assert mel[-1] < 0.5 * mel[0]
