"""Every quantizer on a fake GPU: trained, saved, restored, validated and evaluated, by the real code."""

from pathlib import Path

import pytest
import torch
from torch import nn

from codec.losses import objectives
from codec.losses.objectives import Losses
from experiments import data
from experiments.common import tensor_files
from experiments.evaluation import test_set as evaluation
from experiments.training import validation
from experiments.training.latent_snapshots import LatentSnapshots
from experiments.training.state import below
from experiments.training.validation import batch
from tests.experiments.fake_device.fake_cuda import CUDA, HAS_NO_DETERMINISTIC_FORM, fake_cuda
from tests.experiments.fake_device.running import DIM, ONE_SCALE, Interrupted, Watcher, build, go, names

# Waits for the device in a step that are left, with their reason.
GROUPED = "quantizers/methods/grouped.py"
LEFT = {
    # vector-quantize-pytorch asks each of its codebooks whether it has started, and which codes are dead.
    "grouped-rvq": {f"read: {GROUPED} GroupedRVQ.call": 5, f"read: {GROUPED} _start_in_training": 4},
    # Points outside a Voronoi code are pulled in step by step, as long as some are left.
    "learned-lattice": {"shape: quantizers/geometry/voronoi_codes.py VoronoiCode.encode": 26},
}


# `none` is the first. The points of a learned lattice take half a minute on a pretended device.
NAMES = [pytest.param(name, marks=[pytest.mark.long] * (name == "learned-lattice")) for name in names()]


def check(done: int, asked: int) -> None:
    assert done <= asked


def elsewhere(module: nn.Module) -> list[str]:
    """Parameters and buffers that are not on the device."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, value in tensors if value.device != CUDA]


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_quantizer_starts_from_data(name: str) -> None:
    with fake_cuda():
        quantizer = build(name).to(CUDA).quantizer
        quantizer.start(torch.ones(300, DIM, device="cuda"))
        assert elsewhere(quantizer) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_quantizer_trains_is_restored_and_evaluated(name: str, shards: data.Shards, tmp_path: Path) -> None:
    with fake_cuda() as device:
        codec = build(name)
        audio = batch(shards.split("validation"), 1440)
        snapshots = LatentSnapshots(codec, audio, {2}, tmp_path / "snapshots.npz")
        with pytest.raises(Interrupted):
            go(codec, shards, tmp_path, watcher := Watcher(2, device), snapshots, steps=3, gradient_clip=1.0)
        assert watcher.waits == LEFT.get(name, {})
        assert device.operations & HAS_NO_DETERMINISTIC_FORM <= {"reflection_pad1d_backward"}
        assert elsewhere(codec) == []

        saved, _ = tensor_files.read(tmp_path / "state.safetensors")
        codec = build(name).to(CUDA)
        codec.load_state_dict(below(saved, "model/"))
        assert elsewhere(codec) == []
        losses = Losses(objectives.get("spectral", ONE_SCALE), codec.sample_rate).to(CUDA)
        values, shares, _ = validation.measure(codec, losses, audio.to(CUDA))
        assert "validation/loss" in values
        assert bool(shares) == bool(codec.quantizer.streams)

        split = shards.split("test")
        made = evaluation.reconstruct(codec, split, check)
        shapes = {key: rebuilt.shape for key, (_, rebuilt) in made.audio.items()}
        assert shapes == {key: split.clip(place).shape for place, key in enumerate(split.names)}
        assert made.exact == (len(split) if codec.quantizer.streams else 0)
        evaluation.use(made.usage, made.spread)
        assert evaluation.cost(codec, made)["cost/parameters"] > 0
        assert bool(evaluation.in_bf16(codec, split, check)) == bool(codec.quantizer.streams)
