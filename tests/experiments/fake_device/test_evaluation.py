"""Evaluation under disturbance, and a codec that was made fast, on a fake GPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from codec import inference, references
from experiments.evaluation import robustness
from tests.codec.conftest import draw
from tests.codec.test_checkpoints import released_state
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


def test_a_reference_codec_computes_on_the_device(tmp_path: Path) -> None:
    save_file(released_state(False, draw), tmp_path / "model.safetensors")
    options = {"checkpoint": str(tmp_path / "model.safetensors")}
    clip = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    with fake_cuda():
        reference = references.create("wavtokenizer", options)
        reference.prepare("cuda")
        made = reference.reconstruct(clip, 24_000)
        assert {value.device for value in reference._codec.parameters()} == {CUDA}
    assert made.audio.shape == clip.shape
    assert made.bits == 75 * 6  # frames of 40 samples, 64 codes
