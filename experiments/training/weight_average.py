"""The moving average of a codec's weights."""

import copy

import torch
from torch import Tensor, nn

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
    def update(self, model: nn.Module, steps: int, moved: Tensor) -> None:
        """Move towards `model`, which has made `steps` steps. moved: a scalar on the device, whether the
        last of them changed it; else the average stays as it is."""
        decay = min(self.decay, (1 + steps) / (AVERAGE_WARMUP + steps))
        newest = model.state_dict()
        for name, average in self.model.state_dict().items():
            value = newest[name]
            if average.is_floating_point():
                value = average.lerp(value, 1 - decay)
            average.copy_(torch.where(moved, value, average))
