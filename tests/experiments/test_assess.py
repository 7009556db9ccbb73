"""The round trip through integers, in fp32 and with the encoder in bf16."""

from typing import Any

import numpy as np
import pytest
import torch

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments import assess


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
