"""The corpus of the tests on the fake device, at both rates."""

from pathlib import Path

import pytest
import torch

from experiments import data


@pytest.fixture(scope="session")
def few(speech: Path) -> str:
    """The corpus of spoken sentences, with one clip to evaluate."""
    torch.set_num_threads(1)
    manifest = speech.with_name("few.csv")
    lines = speech.read_text().splitlines()
    manifest.write_text("\n".join(line for line in lines if not line.startswith("test1")))
    return f"manifest:{manifest}"


@pytest.fixture(scope="session")
def shards(few: str) -> data.Shards:
    return data.prepare(few, sample_rate=16_000)


@pytest.fixture(scope="session")
def shards_24k(few: str) -> data.Shards:
    return data.prepare(few, sample_rate=24_000)
