"""ConvNeXt blocks over time (Liu et al. 2022, arXiv 2201.03545; in one dimension as in Vocos, 2306.00814)."""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, layer norm, two pointwise layers, scaled and added to the input."""

    def __init__(self, width: int, expansion: int, kernel_size: int = 7, initial_scale: float = 0.3) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), initial_scale))

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, width] to the same."""
        mixed = self.depthwise(features.mT).mT
        hidden = functional.gelu(self.expand(self.norm(mixed)), approximate="tanh")
        return features + self.scale * self.contract(hidden)

    @property
    def reach(self) -> int:
        """Frames on each side that a frame depends on."""
        return self.depthwise.kernel_size[0] // 2

    def matrices(self) -> list[Tensor]:
        """The hidden weight matrices, which an optimizer may treat as matrices."""
        return [self.expand.weight, self.contract.weight]
