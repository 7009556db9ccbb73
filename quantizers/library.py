"""Adapters to bottlenecks of vector-quantize-pytorch."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from .contract import Quantized, Quantizer, straight_through, zero_loss


class LibraryQuantizer(Quantizer):
    """An adapter: `call` runs the library's module, `lookup` decodes.

    What every adapter fixes: codes are int64; the auxiliary loss is 0 in eval mode (SimVQ and FSP keep
    theirs on); features in eval mode are exactly those that decoding the codes gives.
    """

    @abstractmethod
    def call(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features with the library's gradient, codes [batch, frames, streams] of any integer type, and
        loss."""

    def quantize(self, features: Tensor) -> Quantized:
        quantized, codes, loss = self.call(features)
        codes = codes.long()
        if not self.training:
            quantized, loss = straight_through(self.lookup(codes), quantized), zero_loss(features)
        return Quantized(quantized, codes, loss, {})
