"""Float32 on a GPU: in full, or in TF32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within it, convolutions, recurrent layers and matrix products of float32 on a GPU are computed in TF32
    (10 bits of mantissa), or none of them is. torch's default allows it for the first two."""
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = allowed
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


@contextmanager
def full_precision() -> Iterator[None]:
    """Within it, float32 on a GPU is float32, as evaluation takes it: codes from TF32 are not those that a
    CPU finds."""
    with tf32(False):
        yield
