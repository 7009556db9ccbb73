"""Product codes: several small indices in as few int64 token streams as hold them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from quantizers.contract import MAX_STREAM_SIZE
from quantizers.option_checks import QuantizerError


class MixedRadix(nn.Module):
    """Packs factors of given sizes into streams, factor 0 fastest, in int64 throughout.

    All factors share one stream while their product stays below 2^62; further ones open the next stream.
    """

    radices: Tensor
    sizes: Tensor
    stream_of: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        groups: list[list[int]] = [[]]
        radices = []
        for size in sizes:
            if size > MAX_STREAM_SIZE:
                raise QuantizerError(f"a factor of {size} codes does not fit int64 codes; use fewer levels")
            if math.prod(groups[-1]) * size > MAX_STREAM_SIZE:
                groups.append([])
            radices.append(math.prod(groups[-1]))
            groups[-1].append(size)
        self.factor_sizes = tuple(sizes)
        self.stream_sizes = tuple(math.prod(group) for group in groups)
        stream_of = [stream for stream, group in enumerate(groups) for _ in group]
        self.register_buffer("radices", torch.tensor(radices, dtype=torch.int64), persistent=False)
        self.register_buffer("sizes", torch.tensor(self.factor_sizes, dtype=torch.int64), persistent=False)
        self.register_buffer("stream_of", torch.tensor(stream_of, dtype=torch.int64), persistent=False)

    def pack(self, factors: Tensor) -> Tensor:
        """[..., factors] int64 -> [..., streams] int64."""
        weighted = factors * self.radices
        if len(self.stream_sizes) == 1:
            return weighted.sum(-1, keepdim=True)
        streams = weighted.new_zeros((*weighted.shape[:-1], len(self.stream_sizes)))
        return streams.index_add(-1, self.stream_of, weighted)

    def unpack(self, codes: Tensor) -> Tensor:
        """[..., streams] int64 -> [..., factors] int64."""
        streams = codes if len(self.stream_sizes) == 1 else codes.index_select(-1, self.stream_of)
        return streams // self.radices % self.sizes
