"""Evaluation under disturbance, and a codec that was made fast, on a fake GPU."""

import numpy as np
import pytest
import torch

from codec import inference
from experiments.evaluation import robustness
from tests.experiments.fake_device.fake_cuda import CUDA, fake_cuda
from tests.experiments.fake_device.running import SEANET, build


def test_every_disturbance() -> None:
    clip = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    with fake_cuda():
        codec = build("rvq").to(CUDA).eval()
        for kind in (*robustness.KINDS, robustness.UNDISTURBED):
            made = robustness.disturbed(codec, clip, kind, 2.0, seed=0)
            assert (made.shape, made.dtype) == (clip.shape, np.float32)


@pytest.mark.parametrize("quantizer", ["q2d2-hex", "vq"])
def test_a_prepared_codec_stays_on_the_device(quantizer: str) -> None:
    with fake_cuda(), torch.inference_mode():
        codec = inference.prepare(build(quantizer, SEANET).to(CUDA))
        audio = torch.zeros(1, 4000).to(CUDA)
        codes = codec.encode(audio)
        assert codes.device == codec.decode(codes).device == CUDA
