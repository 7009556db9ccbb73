"""The moving average of a codec's weights."""

import copy

import torch
from torch import nn

AVERAGE_WARMUP = 10  # the average of t steps forgets at least as fast as (1 + t) / (10 + t)


class WeightAverage(nn.Module):
    """A copy of a model whose floating-point state is a moving average of the model's.

    Codebooks are averaged like weights, so that they stay those of the averaged encoder.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, steps: int) -> None:
        """Move towards `model`, which has made `steps` steps."""
        decay = min(self.decay, (1 + steps) / (AVERAGE_WARMUP + steps))
        newest = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(newest[name], 1 - decay)
            else:
                average.copy_(newest[name])
