"""Rates follow from the module, and configurations come near their target."""

import math

import pytest

import quantizers
from quantizers import QuantizerError, rates

MISSION = ("vq", "rvq", "fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic")
RATES = (9.0, 12.0, 13.3, 16.0, 17.5, 19.0, 20.0, 21.0, 24.0, 32.0, 40.0)


@pytest.mark.parametrize("bits", RATES)
@pytest.mark.parametrize("name", MISSION)
def test_the_mission_is_matched_within_two_percent(name: str, bits: float) -> None:
    quantizer = quantizers.create(name, dim=32, bits=bits)
    assert quantizer.bits_per_frame == math.fsum(math.log2(size) for size in quantizer.codebook_sizes)
    assert abs(quantizer.bits_per_frame / bits - 1) < 0.02


@pytest.mark.parametrize("bits", [16.0, 19.0, 21.0])
def test_scalar_and_planar_methods_use_six_channels_of_five_to_thirteen_levels(bits: float) -> None:
    for name in ("fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic"):
        levels = quantizers.create(name, dim=32, bits=bits).config.levels
        assert len(levels) == 6
        assert min(levels) >= 5
        assert max(levels) <= 13


@pytest.mark.parametrize(
    ("name", "levels", "bits"),
    [
        ("q2d2-rhombic", (9, 9, 7, 7, 7, 7), 19.9987),
        ("q2d2-rect", (9, 9, 7, 7, 7, 7), 17.5693),
        ("q2d2-hex-released", (9, 9, 7, 7, 7, 7), 17.5693),
        ("q2d2-rhombic", (9, 9, 9, 9, 7, 7), 20.7692),
        ("fsq", (9, 9, 9, 9, 7, 7), 18.2944),
    ],
)
def test_published_configurations(name: str, levels: tuple[int, ...], bits: float) -> None:
    assert abs(quantizers.create(name, dim=8, levels=levels).bits_per_frame - bits) < 5e-5


def test_codebooks_stay_trainable() -> None:
    assert quantizers.create("vq", dim=32, bits=13.0).codebook_sizes == (8192,)
    assert quantizers.create("vq", dim=32, bits=19.0).codebook_sizes == (724, 724)
    assert quantizers.create("rvq", dim=32, bits=30.0).codebook_sizes == (1024,) * 3
    assert quantizers.create("rvq", dim=32, bits=19.0, stages=4).codebook_sizes == (27,) * 4


def test_channels_can_be_chosen_with_bits() -> None:
    for name in ("fsq", "q2d2-hex", "q2d2-rhombic"):
        quantizer = quantizers.create(name, dim=32, bits=19.0, channels=8)
        assert len(quantizer.config.levels) == 8
        assert abs(quantizer.bits_per_frame / 19 - 1) < 0.02


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("fsq", {"bits": 12.0, "levels": (7, 7)}, "levels and bits both fix the rate"),
        ("vq", {"bits": 12.0, "codebook_size": 7}, "both fix the rate"),
        ("q2d2-hex", {"bits": 12.0, "channels": 3}, "even"),
        ("fsq", {"channels": 3}, "together with bits"),
        ("fsq", {"bits": 0.5}, "at least 1 bit"),
        ("fsq", {"bits": float("nan")}, "at least 1 bit"),
        ("simvq", {"bits": 19.0}, "residual-simvq"),
        ("vq-factorized", {"bits": 19.0}, "rvq-factorized"),
    ],
)
def test_refusals(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(QuantizerError, match=words):
        quantizers.create(name, dim=32, **options)


@pytest.mark.parametrize("name", [name for name in quantizers.available() if name != "none"])
def test_every_method_says_its_bits(name: str) -> None:
    quantizer = quantizers.create(name, dim=32, bits=16.0)
    sizes = zip(quantizer.codebook_sizes, quantizer.stream_strides, strict=True)
    assert quantizer.bits_per_frame == math.fsum(math.log2(size) / stride for size, stride in sizes)
    assert abs(quantizer.bits_per_frame / 16 - 1) < 0.02


def test_bits_per_second() -> None:
    assert rates.bits_per_second(20.0, 75.0) == 1500.0
