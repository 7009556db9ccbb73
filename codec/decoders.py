"""Decoders: features [batch, frames, dim] to audio [batch, samples]."""

import torch
from torch import Tensor, nn

from codec.convnext import ConvNeXtBlock
from codec.mdct import MDCT, expand


class MDCTDecoder(nn.Module):
    """The mirror of `encoders.MDCTEncoder`: returns (frames - 1) * hop samples."""

    def __init__(self, *, hop: int, width: int, blocks: int, expansion: int, dim: int) -> None:
        super().__init__()
        self.transform = MDCT(hop)
        self.project_in = nn.Linear(dim, width)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(width, expansion) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.project_out = nn.Linear(width, hop)
        # Begin near silence: a loud random start costs the first hundred steps.
        nn.init.trunc_normal_(self.project_out.weight, std=0.02)
        nn.init.zeros_(self.project_out.bias)

    def forward(self, features: Tensor) -> Tensor:
        compressed = self.project_out(self.norm(self.blocks(self.project_in(features))))
        with torch.autocast(device_type=features.device.type, enabled=False):
            return self.transform.inverse(expand(compressed.float()))
