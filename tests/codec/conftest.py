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


@pytest.fixture(scope="session")
def murmur() -> np.ndarray:
    """0.4 s at 16 kHz of harmonics with a moving pitch and loudness, float32."""
    time = np.arange(6_400) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 2 * time)) / 16_000
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 20))
    return (0.1 * harmonics * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)
