"""The real training, evaluation and checkpoints on a CUDA device without a GPU, see fake_cuda."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments.common import tensor_files
from experiments.data.cache import Columns
from experiments.data.dataset import Split
from experiments.evaluation import test_set
from experiments.studies.sections import Train
from experiments.training import loop
from experiments.training.checkpoint import Checkpoint
from experiments.training.latent_snapshots import LatentSnapshots
from experiments.training.observer import Interrupted, Observer
from quantizers.checks import conformance
from tests.experiments.fake_device.fake_cuda import CUDA, fake_cuda

MDCT = backbones.MDCTBackbone(width=16, blocks=1, dim=16)
WAVTOKENIZER = backbones.WavTokenizerBackbone(
    strides=(5, 4, 2), encoder_width=4, lstm_layers=1, dim=16, width=32, hidden=48, blocks=1
)
SOUNDSTREAM = backbones.get("soundstream", {"width": 4, "dim": 16, "dilations": (1,)})
ADVERSARIAL = {"name": "wavtokenizer", "options": {"discriminator_width": 0.03}}
EVERYTHING = {
    "steps": 2,
    "batch_size": 4,
    "crop_seconds": 0.1,
    "precision": "bf16",
    "optimizer": "muon",
    "ema_decay": 0.99,
    "gradient_clip": 1.0,
    "log_every": 1,
    "validate_every": 2,
    "checkpoint_every": 1,
}


class Replicated(nn.Module):
    """A module as Fabric returns it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


class OneProcess:
    """Fabric of one process on the device; the real one asks the driver."""

    device, world_size, global_rank, is_global_zero = CUDA, 1, 0, True

    def setup_module(self, module: nn.Module, move_to_device: bool = True) -> nn.Module:
        return Replicated(module)

    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> Any:
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Two clips of noise, 24 kHz."""
    folder = tmp_path_factory.mktemp("noise")
    samples = [12_000, 8_007]
    audio = np.random.default_rng(0).normal(0, 3000, sum(samples)).astype("<i2")
    audio.tofile(folder / "audio.bin")
    columns = Columns(
        names=["a", "b"],
        speakers=["s", "t"],
        shards=[0, 0],
        starts=[0, samples[0]],
        samples=samples,
        rms=[0.1, 0.1],
    )
    return Split(folder, "train", 24_000, columns, [folder / "audio.bin"])


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[Path, tuple[dict[str, Tensor], dict[str, str]]]:
    """Files of tensors, kept in memory: fake ones have no values to write."""
    files: dict[Path, tuple[dict[str, Tensor], dict[str, str]]] = {}

    def write(
        path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], keep: Path | None = None
    ) -> None:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        assert all(value.device.type == "cpu" for value in plain.values())
        path.touch()
        files[path] = plain, dict(metadata)

    monkeypatch.setattr(tensor_files, "write", write)
    monkeypatch.setattr(tensor_files, "read", lambda path: files[path])
    return files


def build(quantizer: str, backbone: backbones.Backbone) -> Codec:
    return model.build(backbone, lambda dim: conformance.builder(quantizer, dim)(), seed=0)


def train(
    codec: Codec, split: Split, folder: Path, observers: Sequence[Observer] = (), **changes: object
) -> None:
    """Train `codec` as a run does."""
    config = Train.model_validate({**EVERYTHING, **changes})
    loop.train(
        codec,
        config,
        train_split=split,
        validation_split=split,
        seed=0,
        fabric=OneProcess(),  # type: ignore[arg-type]
        checkpoint=Checkpoint(folder / "state.safetensors"),
        observers=observers,
    )


def check_on_device(codec: Codec) -> None:
    """See that all of a codec is on the device."""
    values = {**dict(codec.named_parameters()), **dict(codec.named_buffers())}
    assert [name for name, value in values.items() if value.device != CUDA] == []


def everything(codec: Codec, split: Split, folder: Path, **changes: object) -> None:
    """Start from data, train with all that a recipe can have, stop, go on, evaluate."""
    snapshots = LatentSnapshots(codec, torch.zeros(2, 2400), {0, 1, 2}, folder / "latents.npz")
    if codec.quantizer.streams:
        codec.to(CUDA)
        codec.quantizer.start(codec.features(torch.zeros(2, 24_000, device=CUDA)).flatten(0, 1).detach())
    with pytest.raises(Interrupted):
        train(codec, split, folder, [snapshots, StopsAfter(1)], **changes)
    train(codec, split, folder, [snapshots], **changes)
    check_on_device(codec)
    made = test_set.reconstruct(codec, split, lambda done, asked: None)
    assert made.audio["b"][1].shape == made.audio["b"][0].shape
    test_set.in_bf16(codec, split, lambda done, asked: None)


class StopsAfter(Observer):
    """Asks the training to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done = steps, 0

    def progress(self, step: int, steps: int, text: str) -> None:
        self._done = step

    def should_stop(self) -> bool:
        return self._done >= self._steps


@pytest.mark.parametrize("quantizer", quantizers.available())
def test_every_quantizer_passes_training_checkpoint_and_evaluation(
    quantizer: str, noise: Split, tmp_path: Path, kept: object
) -> None:
    with fake_cuda():
        everything(build(quantizer, MDCT), noise, tmp_path)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("backbone", [WAVTOKENIZER, SOUNDSTREAM], ids=["wavtokenizer", "soundstream"])
def test_the_adversarial_recipe_passes_on_every_backbone(
    backbone: backbones.Backbone, precision: str, noise: Split, tmp_path: Path, kept: object
) -> None:
    with fake_cuda():
        everything(
            build("vq", backbone), noise, tmp_path, objective=ADVERSARIAL, precision=precision, accumulate=2
        )


def test_a_constant_on_the_host_is_noticed(noise: Split, tmp_path: Path, kept: object) -> None:
    """The tests above can fail: a constant that was left on the host ends the step."""
    with fake_cuda():
        codec = build("fsq", MDCT)
        codec.quantizer.register_forward_pre_hook(
            lambda module, inputs: (inputs[0] + torch.ones(inputs[0].shape[-1]),)
        )
        with pytest.raises(RuntimeError, match="device"):
            train(codec, noise, tmp_path)


def test_a_value_left_on_the_device_is_noticed() -> None:
    with fake_cuda() as watch:
        value = torch.ones(3, device=CUDA)
        with pytest.raises(TypeError, match="numpy"):
            value.numpy()
        with pytest.raises(RuntimeError, match="same device"):
            torch.stack([value.sum(), torch.tensor(1.0)])
        assert not watch.waits
        value.sum().item()
        assert len(watch.waits) == 1
        value.cpu()
        assert len(watch.copies) == 1
