"""A small corpus and a training on the fake device, as the tests of this folder share them."""

from pathlib import Path

import pytest
import torch
from fake_cuda import CUDA

from codec.model import Codec
from experiments import data
from experiments.studies.sections import Train
from experiments.training import distributed
from experiments.training.checkpoint import Checkpoint
from experiments.training.loop import train
from experiments.training.observer import Observer, Trained

TINY = {
    "steps": 2,
    "batch_size": 2,
    "crop_seconds": 0.05,
    "warmup_steps": 0,
    "log_every": 1,
    "validate_every": 1,
    "checkpoint_every": 1,
}


@pytest.fixture(scope="session")
def shards(speech: Path) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=16_000)


@pytest.fixture(scope="session")
def shards_24k(speech: Path) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=24_000)
