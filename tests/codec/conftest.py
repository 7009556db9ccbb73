"""Weights and audio drawn from names, so that golden values need no stored weights."""

import math
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch


def draw(name: str, *shape: int) -> torch.Tensor:
    """Float32 numbers in [-1, 1) that depend on `name` alone: the same on every machine."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(math.prod(shape))
    return torch.from_numpy((raw >> 40).astype(np.float32) / 2**23 - 1).reshape(shape)


@pytest.fixture(scope="session", name="draw")
def draw_fixture() -> Callable[..., torch.Tensor]:
    return draw
