"""Adapters to bottlenecks of vector-quantize-pytorch."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from quantizers.contract import Quantized, Quantizer
from quantizers.parts.straight_through import straight_through, zero_loss


class LibraryQuantizer(Quantizer):
    """An adapter: `call` runs the library's module, `lookup` decodes.

    What every adapter fixes: codes are int64; the auxiliary loss is 0 in eval mode (SimVQ and FSP keep
    theirs on); features in eval mode are exactly those that decoding the codes gives; empty batches pass.
    """

    def decode(self, codes: Tensor) -> Tensor:
        if not codes.numel():
            self._check_codes(codes)
            return torch.zeros((*codes.shape[:2], self.dim), device=codes.device)
        return super().decode(codes)

    @abstractmethod
    def call(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features with the library's gradient, codes [batch, frames, streams] of any integer type, and
        loss."""

    def quantize(self, features: Tensor) -> Quantized:
        if not features.numel():
            empty = features.new_zeros((*features.shape[:2], self.streams), dtype=torch.int64)
            return Quantized(features, empty, zero_loss(features), {})
        quantized, codes, loss = self.call(features)
        codes = codes.long()
        if not self.training:
            quantized, loss = straight_through(self.lookup(codes), quantized), zero_loss(features)
        return Quantized(quantized, codes, loss, {})
