"""Every quantizer on a fake GPU: trained, stopped, restored, trained on, and evaluated, by the real code."""

from pathlib import Path

import pytest
import torch
from torch import nn

from experiments import data
from experiments.evaluation import test_set as evaluation
from experiments.training.latent_snapshots import LatentSnapshots
from experiments.training.validation import batch
from tests.experiments.fake_device.fake_cuda import CUDA, fake_cuda
from tests.experiments.fake_device.running import DIM, Interrupted, Watcher, build, go, names

CHANGES = {"steps": 3, "optimizer": "muon", "ema_decay": 0.9, "gradient_clip": 1.0, "validate_every": 3}
# Waits for the device in a step that are left, with their reason.
GROUPED = "quantizers/methods/grouped.py"
LEFT = {
    # vector-quantize-pytorch asks each of its codebooks whether it has started, and which codes are dead.
    "grouped-rvq": {f"read: {GROUPED} GroupedRVQ.call": 5, f"read: {GROUPED} _start_in_training": 4}
}


def check(done: int, asked: int) -> None:
    assert done <= asked


def elsewhere(module: nn.Module) -> list[str]:
    """Parameters and buffers that are not on the device."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, value in tensors if value.device != CUDA]


@pytest.mark.parametrize("name", [name for name in names() if name != "none"])
def test_a_quantizer_starts_from_data(name: str) -> None:
    with fake_cuda():
        quantizer = build(name).to(CUDA).quantizer
        quantizer.start(torch.ones(300, DIM, device="cuda"))
        assert elsewhere(quantizer) == []


@pytest.mark.parametrize("name", names())
def test_a_quantizer_trains_resumes_and_is_evaluated(name: str, shards: data.Shards, tmp_path: Path) -> None:
    with fake_cuda() as device:
        codec = build(name)
        audio = batch(shards.split("validation"), 1440)
        snapshots = LatentSnapshots(codec, audio, {2}, tmp_path / "snapshots.npz")
        with pytest.raises(Interrupted):
            go(codec, shards, tmp_path, watcher := Watcher(2, device), snapshots, **CHANGES)
        assert watcher.waits == LEFT.get(name, {})
        watcher = Watcher()
        codec = build(name)
        trained = go(codec, shards, tmp_path, watcher, **CHANGES)
        assert (trained.steps, trained.skipped, trained.precision) == (3, 0, "bf16")
        assert list(watcher.logged) == [3]  # the steps before were restored, not made again
        assert "validation/loss" in watcher.logged[3]
        assert elsewhere(codec) == []

        split = shards.split("test")
        made = evaluation.reconstruct(codec, split, check)
        shapes = {key: rebuilt.shape for key, (_, rebuilt) in made.audio.items()}
        assert shapes == {key: split.clip(place).shape for place, key in enumerate(split.names)}
        assert made.exact == (len(split) if codec.quantizer.streams else 0)
        evaluation.use(made.usage, made.spread)
        assert evaluation.cost(codec, made)["cost/parameters"] > 0
        assert bool(evaluation.in_bf16(codec, split, check)) == bool(codec.quantizer.streams)
        if codec.quantizer.streams:
            with torch.inference_mode():
                codes = codec.encode(audio.to(CUDA))
                assert codes.device == codec.decode(codes).device == CUDA
