"""The machine: cores, memory, GPUs."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_cores(processes: int) -> int:
    """Cores for each of so many `processes` of ours on this machine; at least one."""
    return max(1, cores() // processes)


def free_memory() -> int | None:
    """Bytes that new processes may take: what the machine has free, and what is left of the limit of this
    container. None where the system doesn't say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    with contextlib.suppress(OSError, ValueError):  # no control group, or "max": no limit
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        free = min(free, limit - int((group / "memory.current").read_text(encoding="ascii")))
    return free


def gpus(device: str = "cuda") -> list[str]:
    """The GPUs that `device` means, as CUDA_VISIBLE_DEVICES names them: all that this process may use for
    `cuda`, one of these for `cuda:1`, none for another device."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return []
    names = visible_gpus()
    if names is None:
        import torch

        names = [str(number) for number in range(torch.cuda.device_count())]
    return names[int(index) : int(index) + 1] if index else names


def visible_gpus() -> list[str] | None:
    """The names in CUDA_VISIBLE_DEVICES: numbers, or ids of GPUs or of MIG instances. None where it is not
    set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if visible is None else [name.strip() for name in visible.split(",") if name.strip()]


def listed_gpus() -> int:
    """Number of GPUs that a study would use: those in CUDA_VISIBLE_DEVICES, else those that the driver lists.
    Needs no torch."""
    if (visible := visible_gpus()) is not None:
        return len(visible)
    try:
        listed = subprocess.run(("nvidia-smi", "-L"), capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return listed.stdout.count("GPU ") if listed.returncode == 0 else 0


WORKER_MEMORY = 2 * 2**30  # bytes; torch, the tracking client and the metrics' models take 1.5 GB


def default_workers() -> int:
    """One worker for each core that this process may use, as far as the free memory goes."""
    memory = free_memory()
    return cores() if memory is None else max(1, min(cores(), memory // WORKER_MEMORY))
