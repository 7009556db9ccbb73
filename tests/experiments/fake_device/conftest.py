"""The corpus of the tests on the fake device, at both rates."""

from pathlib import Path

import pytest
import torch

from experiments import data


@pytest.fixture(scope="session")
def shards(speech: Path) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=16_000)


@pytest.fixture(scope="session")
def shards_24k(speech: Path) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=24_000)
