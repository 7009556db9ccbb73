"""Encoders: audio [batch, samples] to features [batch, frames, dim]."""

import torch
from torch import Tensor, nn

from codec.convnext import ConvNeXtBlock
from codec.mdct import MDCT, compress


class MDCTEncoder(nn.Module):
    """MDCT frames, compressed, through ConvNeXt blocks. Takes a multiple of `hop` samples."""

    def __init__(self, *, hop: int, width: int, blocks: int, expansion: int, dim: int) -> None:
        super().__init__()
        self.transform = MDCT(hop)
        self.project_in = nn.Linear(hop, width)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(width, expansion) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.project_out = nn.Linear(width, dim)

    def forward(self, audio: Tensor) -> Tensor:
        with torch.autocast(device_type=audio.device.type, enabled=False):
            frames = compress(self.transform(audio.float()))
        return self.project_out(self.norm(self.blocks(self.project_in(frames)))).float()
