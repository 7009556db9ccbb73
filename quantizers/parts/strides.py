"""Time scales of token streams: pooling of features to one vector per block of frames, and the way back.

A stream of stride s has one token per block of s frames, and the blocks of a clip begin at its first frame.
The last block may have fewer frames. It is the mean of those it has, nothing is padded, and its token is a
whole one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from quantizers.option_checks import QuantizerError, check_count


def token_count(frames: int, stride: int) -> int:
    """Tokens of a stream of `stride` for a clip of `frames`: one for each block that has begun."""
    return -(-frames // stride)


def check_strides(strides: Sequence[object]) -> None:
    """Raise QuantizerError unless `strides` are at least one positive integer."""
    if not strides:
        raise QuantizerError("strides must have at least one entry, such as [4, 2, 1]")
    for stride in strides:
        check_count("each of strides", stride)


def pool(values: Tensor, stride: int) -> Tensor:
    """Means [batch, blocks, dim] of the blocks of `values` [batch, frames, dim]."""
    if stride == 1:
        return values
    batch, frames, dim = values.shape
    blocks = token_count(frames, stride)
    missing = blocks * stride - frames
    sums = F.pad(values, (0, 0, 0, missing)).reshape(batch, blocks, stride, dim).sum(2)
    if not missing:
        return sums / stride
    counts = values.new_full((blocks, 1), stride)
    counts[-1] = stride - missing
    return sums / counts


def repeat(values: Tensor, stride: int, frames: int) -> Tensor:
    """`values` [batch, blocks, ...] for each of `frames`: nearest upsampling, [batch, frames, ...]."""
    return values if stride == 1 else values.repeat_interleave(stride, 1)[:, :frames]
