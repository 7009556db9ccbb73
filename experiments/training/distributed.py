"""The processes of one training: a single one, or those that torchrun started, by Lightning Fabric."""

import inspect
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from experiments.training.on_device.arithmetic import prepare_process

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# The others wait for what the first process does alone: preparing a corpus, scoring. When one ends, its
# connections close, and torchrun ends the rest.
PATIENCE = timedelta(days=7)


class ProcessError(ValueError):
    """The processes of a training do not fit together; the message says what to change."""


def single(device: torch.device) -> "Fabric":
    """This process alone on `device`, whatever a cluster's environment says."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    if device.type == "cuda":
        prepare_process()
    index = [device.index or 0] if device.type == "cuda" else 1
    fabric = Fabric(accelerator=device.type, devices=index, plugins=[LightningEnvironment()])
    fabric.launch()
    return fabric


def launched(device_type: str) -> "Fabric":
    """The processes that torchrun started, or this one alone. `device_type`: cpu or cuda.

    Each of several processes takes the device of its local rank.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return single(torch.device(device_type))
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    if device_type == "cuda":
        prepare_process()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    if device_type == "cuda" and local > torch.cuda.device_count():
        raise ProcessError(
            f"{local} processes on this machine, but {torch.cuda.device_count()} GPUs; start one process "
            f"per GPU: torchrun --nproc-per-node {torch.cuda.device_count()}"
        )
    # Codebooks and statistics of residual stages keep themselves equal; nothing else is a buffer that
    # training changes. The option's name is another one from torch 2.14 on.
    known = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    strategy = DDPStrategy(gradient_as_bucket_view=True, timeout=PATIENCE, **{name: False})
    fabric = Fabric(accelerator=device_type, devices=local, num_nodes=world // local, strategy=strategy)
    fabric.launch()
    return fabric


def leave() -> None:
    """End this process's part in the group, where all of them are done.

    Otherwise its threads end with the interpreter, which now and then aborts the process ("terminate called
    without an active exception", Gloo of torch 2.14).
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def is_lost_peer(error: BaseException) -> bool:
    """Tell an error that says that another process of the training has ended."""
    if isinstance(error, dist.DistNetworkError):
        return True
    text = str(error)
    lost = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    return isinstance(error, RuntimeError) and any(words in text for words in lost)


def any_of(fabric: "Fabric", flag: bool) -> bool:
    """Agree on a flag: true where it is true in any process."""
    if fabric.world_size == 1:
        return flag
    value = torch.tensor(float(flag), device=fabric.device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return bool(value)


def anywhere(fabric: "Fabric", flag: Tensor) -> Tensor:
    """Agree on a flag, a scalar on the device, for which the host does not wait: true where it is true
    in any process."""
    if fabric.world_size == 1:
        return flag
    value = flag.float()
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return value > 0


def mean(fabric: "Fabric", values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The mean over processes of each scalar, on the device."""
    if not values or fabric.world_size == 1:
        return values
    stacked = torch.stack([value.detach().float() for value in values.values()])
    dist.all_reduce(stacked)
    return dict(zip(values, stacked / fabric.world_size, strict=True))


def gather(fabric: "Fabric", value: Any) -> list[Any]:
    """`value` of every process, by rank."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(values, value)
    return values


def from_first(fabric: "Fabric", value: Any) -> Any:
    """The `value` of rank 0."""
    return gather(fabric, value)[0]


def same_weights(fabric: "Fabric", module: torch.nn.Module) -> None:
    """Give `module` the parameters and buffers that it has in the first process."""
    if fabric.world_size == 1:
        return
    with torch.no_grad():
        for value in (*module.parameters(), *module.buffers()):
            dist.broadcast(value, src=0)
