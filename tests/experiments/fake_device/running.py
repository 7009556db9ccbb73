"""Trainings on the fake device, by the loop that `codecbench run` uses."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments import data
from experiments.studies.sections import Train
from experiments.training import distributed
from experiments.training.checkpoint import Checkpoint
from experiments.training.loop import train
from experiments.training.observer import Interrupted, Observer, Trained
from quantizers.checks import conformance
from tests.experiments.fake_device.fake_cuda import FakeCUDA

DIM = conformance.DIM
MDCT = backbones.get("mdct-tiny", {"width": 16, "blocks": 1, "dim": DIM})
SEANET = backbones.WavTokenizerBackbone(
    strides=(5, 4, 2), encoder_width=4, lstm_layers=1, dim=DIM, width=32, hidden=48, blocks=1
)
# One scale of the loss: what is the same for every quantizer costs most of a test's time.
ONE_SCALE = {"mel": 0.0, "complex": 0.0, "log_mel": 1.0, "log_mel_scales": [[256, 64, 20]]}
SPECTRAL = {"name": "spectral", "options": ONE_SCALE}
SOUNDSTREAM = backbones.SoundStreamBackbone(
    strides=(4, 5, 2), width=8, groups=(1, 2), dilations=(1, 3), dim=DIM
)
ADVERSARIAL = {"name": "wavtokenizer", "options": {"discriminator_width": 0.03}}
TINY = {
    "steps": 2,
    "batch_size": 2,
    "crop_seconds": 0.09,
    "warmup_steps": 0,
    "log_every": 1,
    "validate_every": 100,
    "checkpoint_every": 100,
    "precision": "bf16",
    "objective": SPECTRAL,
}


class Watcher(Observer):
    """Remembers what a training tells; asks it to stop after `stop_after` steps.

    waits: of the host for `device` in the step `watched`. Codebooks start at the first.
    """

    def __init__(
        self, stop_after: int | None = None, device: FakeCUDA | None = None, watched: int = 2
    ) -> None:
        self.device, self.watched, self.waits = device, watched, Counter[str]()
        self.logged: dict[int, dict[str, float]] = {}
        self.warned: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.step, self.stop_after = 0, stop_after

    def restored(self, step: int) -> None:
        self.step = step
        if self.device is not None:
            self.device.contacts.clear()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.logged.setdefault(step, {}).update(values)

    def warning(self, step: int, name: str, text: str) -> None:
        self.warned.append((name, text))

    def progress(self, step: int, steps: int, text: str) -> None:
        self.step = step
        self.texts.append(text)
        if self.device is not None:
            self.waits = self.device.waits() if step == self.watched else self.waits
            self.device.contacts.clear()

    def should_stop(self) -> bool:
        return self.stop_after is not None and self.step >= self.stop_after


def build(quantizer: str = "fsq", backbone: backbones.Backbone = MDCT) -> Codec:
    """A tiny codec around `quantizer`, with the options that the conformance tests give it."""
    return model.build(backbone, lambda dim: conformance.builder(quantizer, dim)(), seed=0)


def go(codec: Codec, shards: data.Shards, folder: Path, *observers: Observer, **changes: object) -> Trained:
    """Train `codec` on the fake device."""
    config = Train.model_validate({**TINY, **changes})
    return train(
        codec,
        config,
        train_split=shards.split("train"),
        validation_split=shards.split("validation"),
        seed=0,
        fabric=distributed.single(torch.device("cuda")),
        checkpoint=Checkpoint(folder / "state.safetensors", config.model_dump(mode="json")),
        observers=observers,
    )


def names() -> list[str]:
    """All registered quantizers."""
    return list(quantizers.available())


__all__ = [
    "ADVERSARIAL",
    "DIM",
    "MDCT",
    "ONE_SCALE",
    "SEANET",
    "SOUNDSTREAM",
    "Interrupted",
    "Watcher",
    "build",
    "go",
    "names",
]
