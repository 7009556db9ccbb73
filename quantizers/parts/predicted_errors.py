"""What share of a Gaussian's variance blocks of given levels leave, by a quantizer's own cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from quantizers.parts.components import SEED, generator, unexplained
from quantizers.parts.scales import best_scales

FRAMES = 4096
Levels = tuple[int, ...]
_known: dict[tuple[type, str], dict[Levels, tuple[float, ...]]] = {}


def predicted_errors(
    cls: Any, options: Mapping[str, Any], blocks: Sequence[Levels]
) -> list[tuple[float, ...]]:
    """For each of `blocks`, what is left of a unit variance in each channel after the best scale and a linear
    read-out.

    cls: a subclass of `ChannelQuantizer`. options: of its configuration, all but the levels. Computed once a
    process for each block. Where what a block leaves depends on others, as in a trellis, it is measured among
    `cls.copies` of its like.
    """
    known = _known.setdefault((cls, repr(sorted(options.items()))), {})
    missing = [block for block in dict.fromkeys(blocks) if block not in known]
    for first in range(0, len(missing), cls.blocks_at_once):
        part = missing[first : first + cls.blocks_at_once]
        known.update(zip(part, _measured(cls, options, part), strict=True))
    return [known[block] for block in blocks]


def _measured(cls: Any, options: Mapping[str, Any], blocks: Sequence[Levels]) -> list[tuple[float, ...]]:
    copies = [block for block in blocks for _ in range(cls.copies)]
    levels = tuple(level for block in copies for level in block)
    width = len(blocks[0])
    with torch.no_grad(), torch.random.fork_rng(devices=[]):  # new layers draw weights
        quantizer = cls(len(levels), cls.config_class(**options, levels=levels)).eval()
        frames = _independent(gaussian_frames(width), cls.copies).repeat(1, len(blocks))

        def read(scales: Tensor) -> Tensor:
            quantizer.project_in.weight.copy_(torch.diag(scales))
            quantizer.project_in.bias.copy_(torch.as_tensor(quantizer.middle))
            quantizer.try_out(frames.float())
            return quantizer.values_of(frames.float())

        scales = best_scales(read, frames, torch.ones(len(levels)), width)
        errors = unexplained(read(scales), frames, width)
    return [tuple(each) for each in errors.view(len(blocks), cls.copies, width).mean(1).tolist()]


def _independent(frames: Tensor, copies: int) -> Tensor:
    """`frames` [FRAMES, width] and `copies` - 1 times the same in other orders, side by side."""
    draw = generator()
    others = [frames[torch.randperm(FRAMES, generator=draw)] for _ in range(copies - 1)]
    return torch.cat((frames, *others), 1)


def gaussian_frames(width: int) -> Tensor:
    """`FRAMES` evenly spread samples [frames, width] float64 of independent Gaussians of unit variance."""
    if width == 1:
        even = ((torch.arange(FRAMES, dtype=torch.float64) + 0.5) / FRAMES).unsqueeze(1)
    else:
        engine = torch.quasirandom.SobolEngine(width, scramble=True, seed=SEED)
        even = engine.draw(FRAMES, dtype=torch.float64).clamp(0.5 / FRAMES, 1 - 0.5 / FRAMES)
    values = torch.special.ndtri(even)
    return values / values.square().mean(0).sqrt()
