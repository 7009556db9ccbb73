"""All that a training needs to go on bit for bit, in one safetensors file that is replaced atomically."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


@dataclass
class Progress:
    """Where a training stands: finished steps, batches skipped, seconds spent over all sittings."""

    step: int = 0
    skipped: int = 0
    seconds: float = 0.0


def save(
    path: Path, identity: str, model: nn.Module, optimizers: Sequence[Optimizer], progress: Progress
) -> None:
    """Write the state to `path`. Killed at any moment, it leaves the old file or the new one, whole.

    Raises CheckpointError when the disk does not take it.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimizer/{number}/{index}/{name}"] = torch.as_tensor(value)
    tensors["random/cpu"] = torch.get_rng_state()
    for device in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
        tensors[f"random/cuda/{device}"] = torch.cuda.get_rng_state(device)
    write_safetensors(path, tensors, {"identity": identity, "progress": json.dumps(asdict(progress))})


def restore(path: Path, identity: str, model: nn.Module, optimizers: Sequence[Optimizer]) -> Progress:
    """Bring model, optimizers and random generators to the state in `path`.

    Raises CheckpointError for a damaged file or one of another training.
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("identity") != identity:
        raise CheckpointError(
            f"{path} belongs to the training {metadata.get('identity')}, not to {identity}; move it away"
        )
    model.load_state_dict(_below(tensors, "model/"))
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, f"optimizer/{number}/").items():
            index, _, name = key.partition("/")
            state.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    torch.set_rng_state(tensors["random/cpu"])
    for device, value in _below(tensors, "random/cuda/").items():
        torch.cuda.set_rng_state(value, int(device))
    return Progress(**json.loads(metadata["progress"]))


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors atomically. Raises CheckpointError when the disk does not take them."""
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, partial, metadata)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:  # safetensors raises its own error class for a full disk
        partial.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error}. The last good one is kept. "
            "Remedy: make room on the disk, then start the same command again."
        ) from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file. Raises CheckpointError when it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no readable checkpoint ({error}); delete it to begin again"
        ) from error


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
