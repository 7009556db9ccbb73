"""Memory of causal layers between the pieces of a stream."""

import torch
from torch import Tensor, nn


class StreamMemory:
    """The last inputs of each causal layer; empty at first, which stands for the silence before a stream.

    Give the same memory to a network with one piece of a stream after the other, and with it the pieces get
    what the whole would. It belongs to one network and one batch of streams, and carries no gradient.
    """

    def __init__(self) -> None:
        self._kept: dict[nn.Module, Tensor] = {}

    def extend(self, layer: nn.Module, signal: Tensor, steps: int) -> Tensor:
        """`signal` [batch, length, channels] with the `steps` inputs of `layer` before it in front.

        Remembers the last `steps` of the result, [batch, steps + length, channels].
        """
        before = self._kept.get(layer)
        if before is None:
            before = signal.new_zeros(signal.shape[0], steps, signal.shape[2])
        extended = torch.cat((before.to(signal.dtype), signal), dim=1)
        self._kept[layer] = extended[:, extended.shape[1] - steps :].detach().clone()
        return extended
