"""The released weights of Lyra 2 against what their own runtime computes; skipped where they are absent."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import quantizers
from codec import backbones, weights
from codec.model import Codec
from codec.references.contract import resample

GOLDEN = Path(__file__).parent / "golden" / "lyra.npz"  # of the runtime, for the clip `murmur`


def signal_to_noise(reference: Tensor, other: Tensor) -> float:
    """Decibels."""
    return float(10 * torch.log10(reference.square().sum() / (reference - other).square().sum()))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tensors(lyra_files: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """All of the release; converted for the first test, read from the cache by the others."""
    monkeypatch.setenv("CODECBENCH_CACHE", str(cache))
    monkeypatch.setenv("CODECBENCH_SOUNDSTREAM", str(lyra_files))
    return weights.obtain("soundstream")


@pytest.fixture
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as file:
        return {
            "features": torch.from_numpy(file["features"]),
            "codes": torch.from_numpy(file["codes"]).long(),
        }


def test_they_are_the_catalogued_ones(tensors: dict[str, Tensor]) -> None:
    assert len(tensors) == 129
    assert sum(tensor.numel() for tensor in tensors.values()) == 660_352 + 660_289 + 46 * 16 * 64
    depthwise = [value for name, value in tensors.items() if name.endswith("depthwise.bias")]
    assert len(depthwise) == 18
    assert not any(value.any() for value in depthwise)


def test_features_are_those_of_the_runtime(
    tensors: dict[str, Tensor], golden: dict[str, Tensor], murmur: np.ndarray
) -> None:
    encoder, _ = backbones.load_released("soundstream")
    with torch.no_grad():
        features = encoder(torch.from_numpy(murmur)[None])
    assert features.shape == (1, 20, 64)
    assert signal_to_noise(golden["features"], features[0]) > 20  # the runtime rounds to 8 bits in places


@pytest.mark.parametrize("stages", [1, 16, 30, 46])
def test_codes_are_those_of_the_runtime(
    tensors: dict[str, Tensor], golden: dict[str, Tensor], stages: int
) -> None:
    bottleneck = quantizers.create("soundstream-rvq", dim=64, bits=4 * stages).eval()
    bottleneck.load_released(weights.part(tensors, "bottleneck"))
    codes = bottleneck.encode(golden["features"][None])
    assert torch.equal(codes[0], golden["codes"][:, :stages])
    codebooks = tensors["bottleneck.codebooks"]
    quantized = sum(codebooks[stage, codes[0, :, stage]] for stage in range(stages))
    assert torch.equal(bottleneck.decode(codes)[0], quantized)


class Runtime(NamedTuple):
    """A clip of speech at 16 kHz, and what the runtime makes of it."""

    audio: np.ndarray
    features: Tensor
    reconstruction: np.ndarray


@pytest.fixture(scope="module")
def runtime(lyra_files: Path) -> Runtime:
    """Three sentences of speech through the runtime, without quantization."""
    pytest.importorskip("ai_edge_litert")
    from hibari import Hibari

    from codec.references.lyra import HOP, Lyra, Network

    say = Hibari(voice="heart", threads=1)
    spoken = [say(text, speed=1.0, seed=0) for text in ("We measured it twice.", "Where is the blue boat?")]
    audio = resample(np.concatenate(spoken).astype(np.float32), 24_000, 16_000)
    audio = 0.1 * audio[: len(audio) // HOP * HOP] / np.sqrt(np.mean(audio**2))
    lyra = Lyra(folder=str(lyra_files))
    encoder, decoder = (
        Network(lyra.interpreter(f"{name}.tflite")) for name in ("soundstream_encoder", "lyragan")
    )
    features = np.stack([encoder(frame).reshape(-1).copy() for frame in audio.reshape(-1, HOP)])
    reconstruction = np.concatenate([decoder(frame).reshape(-1).copy() for frame in features])
    return Runtime(audio, torch.from_numpy(features), reconstruction)


@pytest.mark.slow
def test_speech_sounds_at_least_as_good_as_from_the_runtime(
    tensors: dict[str, Tensor], runtime: Runtime
) -> None:
    from pesq import pesq

    encoder, decoder = backbones.load_released("soundstream")
    codec = Codec(encoder, quantizers.create("none", dim=64), decoder, sample_rate=16_000, hop=320).eval()
    with torch.no_grad():
        features = codec.features(torch.from_numpy(runtime.audio)[None])
        from_its_features = decoder(runtime.features[None])[0]
    assert signal_to_noise(runtime.features, features[0]) > 20
    assert signal_to_noise(torch.from_numpy(runtime.reconstruction), from_its_features) > 18
    ours = codec.reconstruct(torch.from_numpy(runtime.audio)[None])[0].numpy()
    scores = [pesq(16_000, runtime.audio, heard, "wb") for heard in (runtime.reconstruction, ours)]
    assert scores[0] > 2.5
    assert scores[1] > scores[0] - 0.02


def test_training_goes_on_from_the_released_bottleneck(
    tensors: dict[str, Tensor], golden: dict[str, Tensor]
) -> None:
    features = golden["features"][None]
    codebooks = tensors["bottleneck.codebooks"]
    kept = quantizers.create("soundstream-rvq", dim=64, stages=4, decay=1.0, revive_below=0.0)
    trained = quantizers.create("soundstream-rvq", dim=64, stages=4)
    for bottleneck in (kept, trained):
        bottleneck.load_released(weights.part(tensors, "bottleneck"))
        for _ in range(3):
            bottleneck(features)
    for stage in range(4):
        assert torch.equal(kept.codebooks[stage].codes[0], codebooks[stage])
        moved = (trained.codebooks[stage].codes[0] - codebooks[stage]).norm() / codebooks[stage].norm()
        assert 0 < moved < 0.05  # k-means would have put them elsewhere altogether
