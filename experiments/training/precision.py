"""Precision of the network's blocks, and their compilation."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from codec.losses.objectives import Losses
from codec.model import Codec


@contextmanager
def compiled(codec: Codec, losses: Losses, wanted: bool) -> Iterator[None]:
    """Within it, encoder, decoder and discriminators run compiled. Names of parameters stay as they are."""
    parts: list[nn.Module] = [codec.encoder, codec.decoder]
    if losses.adversary is not None:
        parts += losses.adversary.families.values()
    if not wanted:
        parts = []
    for part in parts:
        part.compile()
    try:
        yield
    finally:
        for part in parts:
            part._compiled_call_impl = None


def device_name(device: torch.device) -> str:
    """The name of a GPU as its driver gives it, or the kind of another device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def resolved(precision: str, device: torch.device) -> str:
    """The precision of blocks on `device`: `auto` is bf16 where the device computes in it, else fp32."""
    if precision != "auto":
        return precision
    if device.type == "cpu":
        supported = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    else:
        supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if supported else "fp32"


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The dtype of the network's blocks, or None for fp32."""
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
