"""Inputs and assertions that the checks of quantizers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from quantizers.contract import Quantizer
from quantizers.option_checks import QuantizerError

DIM = 32
Build = Callable[[], Quantizer]


class Skip(Exception):
    """A check does not apply; the message says why."""


def random_features(scale: float = 1.0, seed: int = 0) -> Tensor:
    """Gaussian features [4, 37, DIM]."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(4, 37, DIM, generator=generator)


def within(codes: Tensor, sizes: tuple[int, ...], what: str) -> None:
    """Each of `codes` [batch, frames, sizes] lies in [0, size)."""
    assert codes.shape[-1] == len(sizes), f"{codes.shape[-1]} {what}, but {len(sizes)} sizes"
    for column, size in zip(codes.flatten(0, 1).unbind(-1), sizes, strict=True):
        if len(column):
            low, high = column.min().item(), column.max().item()
            assert low >= 0, f"{what} reach down to {low}"
            assert high < size, f"{what} reach up to {high}, beyond {size - 1}"


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor], what: str) -> None:
    """Two state dicts are equal, bit for bit."""
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"{what} {name}"


def refused(call: Callable[[Tensor], object], argument: Tensor, what: str) -> None:
    """`call` of `argument` raises QuantizerError."""
    try:
        call(argument)
    except QuantizerError:
        return
    raise AssertionError(what)
