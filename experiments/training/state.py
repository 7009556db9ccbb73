"""All that a training needs to go on bit for bit, in one safetensors file that is replaced atomically."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from experiments.common.atomic_files import replacing
from experiments.common.flat_keys import flatten


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


@dataclass
class Progress:
    """Where a training stands: finished steps; batches skipped, and how many of them in a row up to here;
    seconds spent over all sittings; whether a codebook had collapsed when last looked at; the MLflow run;
    what the network's blocks computed in; and the position in the data, where the step alone does not tell
    it (`cursor` of streamed crops)."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0
    collapsed: bool = False
    run_id: str = ""
    precision: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What of a training has a state: modules by name, optimizers, and the scale of fp16 gradients."""

    modules: Mapping[str, nn.Module]
    optimizers: Sequence[Optimizer]
    scaler: GradScaler | None = None


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of this process's random generators."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def save(
    path: Path,
    configuration: Mapping[str, Any],
    parts: Parts,
    progress: Progress,
    randoms: Sequence[Mapping[str, Tensor]],
) -> None:
    """Write the state to `path`. Killed at any moment, it leaves the old file or the new one, whole.

    randoms: `random_state` of every process, by rank. Raises CheckpointError when the disk does not take it.
    """
    tensors: dict[str, Tensor] = {}
    for part, module in parts.modules.items():
        tensors |= {f"{part}/{name}": value for name, value in module.state_dict().items()}
    for number, optimizer in enumerate(parts.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimizer/{number}/{index}/{name}"] = torch.as_tensor(value)
    for rank, state in enumerate(randoms):
        tensors |= {f"random/{rank}/{name}": value for name, value in state.items()}
    metadata = {"configuration": json.dumps(configuration), "progress": json.dumps(asdict(progress))}
    if parts.scaler is not None:
        metadata["scaler"] = json.dumps(parts.scaler.state_dict())
    write_safetensors(path, tensors, metadata)


def restore(
    path: Path, configuration: Mapping[str, Any], parts: Parts, *, rank: int = 0, device: torch.device
) -> Progress:
    """Bring the parts, and the random generators of the process of this `rank`, to the state in `path`.

    With more processes than at the time, the random generators of the new ones stay as they are. Raises
    CheckpointError for a damaged file or one of another training.
    """
    tensors, metadata = read_safetensors(path)
    if differing := differences(json.loads(metadata.get("configuration", "{}")), configuration):
        raise CheckpointError(
            f"{path} belongs to another training: {'; '.join(differing)}. "
            "Remedy: move it away, or ask for its configuration."
        )
    for part, module in parts.modules.items():
        module.load_state_dict(_below(tensors, f"{part}/"))
    for number, optimizer in enumerate(parts.optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, f"optimizer/{number}/").items():
            index, _, name = key.partition("/")
            state.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    if parts.scaler is not None and "scaler" in metadata:
        parts.scaler.load_state_dict(json.loads(metadata["scaler"]))
    random = _below(tensors, f"random/{rank}/")
    if "cpu" in random:
        torch.set_rng_state(random["cpu"])
    if "cuda" in random and device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], device)
    return Progress(**json.loads(metadata["progress"]))


def differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Every key in which two configurations differ, with both values."""
    theirs, mine = flatten(saved), flatten(asked)
    return [
        f"{key} is {theirs.get(key, 'not there')} in the file and {mine.get(key, 'not there')} now"
        for key in dict.fromkeys([*mine, *theirs])
        if theirs.get(key) != mine.get(key)
    ]


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors atomically. Raises CheckpointError when the disk does not take them."""
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        with replacing(path) as partial:
            save_file(plain, partial, metadata)
    except Exception as error:  # safetensors raises its own error class for a full disk
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
