"""The round trip through integers, in fp32 and with the encoder in bf16."""

from typing import Any

import numpy as np
import pytest
import torch

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments.evaluation import test_set as assess


class Clips:
    """Two clips of noise, as a split has them."""

    names = ("one", "two")

    def __len__(self) -> int:
        return 2

    def clip(self, index: int) -> np.ndarray:
        return (0.1 * np.random.default_rng(index).standard_normal(6_000 + index)).astype(np.float32)


def build(name: str, **options: Any) -> Codec:
    backbone = backbones.get("mdct-tiny", {"width": 32, "blocks": 1})
    return model.build(backbone, lambda dim: quantizers.create(name, dim=dim, **options), 0).eval()


def ignore(done: int, asked: int) -> None:
    """Nobody watches."""


@pytest.mark.parametrize("levels", [[3, 3], [255, 255, 255]])
def test_bf16_codes_decode_exactly_and_the_share_that_differs_is_counted(levels: list[int]) -> None:
    codec = build("fsq", levels=levels)
    values = assess.in_bf16(codec, Clips(), ignore)  # type: ignore[arg-type]
    assert values["eval/bf16_round_trip_exact"] == 1
    differing = total = 0
    with torch.inference_mode():
        for index in range(2):
            audio = torch.from_numpy(Clips().clip(index))[None]
            with torch.autocast("cpu", torch.bfloat16):
                features = codec.features(audio)
            codes = codec.quantizer.encode(features.float())
            differing += int((codes != codec.encode(audio)).sum())
            total += codes.numel()
    assert values["eval/bf16_codes_differ"] == differing / total
    assert differing > 0 or levels == [3, 3]  # fine levels do not survive eight bits of mantissa


def test_without_codes_there_is_nothing_to_check() -> None:
    assert assess.in_bf16(build("none"), Clips(), ignore) == {}  # type: ignore[arg-type]


def test_pairs_of_channels_are_counted_together() -> None:
    made = assess.reconstruct(build("fsq", levels=[5, 4, 3]), Clips(), ignore)  # type: ignore[arg-type]
    assert {name: len(counts) for name, counts in made.histograms.items()} == {
        "factor_0": 5,
        "factor_1": 4,
        "factor_2": 3,
        "pair_0": 20,
    }
    joint = made.histograms["pair_0"].reshape(5, 4)
    np.testing.assert_array_equal(joint.sum(1), made.histograms["factor_0"])
    np.testing.assert_array_equal(joint.sum(0), made.histograms["factor_1"])
    planar = assess.reconstruct(build("q2d2-rect", levels=[3, 3]), Clips(), ignore)  # type: ignore[arg-type]
    assert set(planar.histograms) == {"factor_0"}


def test_learned_codebooks_are_seen_from_their_plane() -> None:
    made = assess.reconstruct(build("vq", codebook_size=16, heads=2), Clips(), ignore)  # type: ignore[arg-type]
    assert made.slices["points_1"].shape == (16, 2)
    assert made.slices["distances_0"].shape == (16,)
    frames = made.histograms["factor_0"].sum()
    assert made.slices["latents_0"].shape == (frames, 2)
    assert assess.reconstruct(build("fsq", levels=[3]), Clips(), ignore).slices == {}  # type: ignore[arg-type]


def test_evaluation_in_fp32_is_fp32() -> None:
    """Convolutions and products are not computed in TF32 while clips pass, and as before afterwards."""

    def allowed() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    seen: list[tuple[bool, bool]] = []
    before = allowed()
    assert before[0], "torch's default is TF32 in convolutions: this test would show nothing"
    codec = build("fsq", levels=[3, 3])
    assess.reconstruct(codec, Clips(), lambda done, asked: seen.append(allowed()))  # type: ignore[arg-type]
    assess.in_bf16(codec, Clips(), lambda done, asked: seen.append(allowed()))  # type: ignore[arg-type]
    assert seen == [(False, False)] * 4
    assert allowed() == before
