"""How a GPU computes: TF32, the choice of cuDNN's algorithms, deterministic ones."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from codec.float32 import tf32
from experiments.studies.sections import Train

# cuBLAS computes the same twice only with workspaces of a fixed size (NVIDIA's documentation of cuBLAS,
# "Results reproducibility"): eight of 4 MiB, as much as torch gives it on an H100.
_WORKSPACES = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def prepare_process() -> None:
    """Set what has to be set before this process first computes on a GPU, for all trainings in it."""
    os.environ.setdefault(*_WORKSPACES)


@contextmanager
def arithmetic(config: Train, device: torch.device) -> Iterator[None]:
    """Within it, a GPU computes as `train.tf32`, `train.cudnn_benchmark` and `train.deterministic` say.

    On a CPU nothing changes: with one thread, it computes the same each time.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    benchmark, deterministic = cudnn.benchmark, cudnn.deterministic
    strict, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn.benchmark = config.cudnn_benchmark
    if config.deterministic:
        cudnn.deterministic = True
        torch.use_deterministic_algorithms(True)
    try:
        with tf32(config.tf32):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
