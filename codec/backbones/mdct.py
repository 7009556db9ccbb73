"""MDCT frames in and out, with ConvNeXt blocks between: the backbone that two CPU cores can train."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec.backbones.contract import Backbone, Reach, check_counts
from codec.backbones.convnext import ConvNeXtBlock
from codec.backbones.mdct_transform import MDCT, compress, expand


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

    @property
    def reach(self) -> Reach:
        """A window has the samples of a frame and of the one before."""
        blocks = _reach(self.blocks)
        return Reach(blocks + 1, blocks)


@dataclass(frozen=True, kw_only=True)
class MDCTBackbone(Backbone):
    """MDCT frames in and out with ConvNeXt blocks between.

    sample_rate: Hz. hop: samples per frame, so that frame_rate = sample_rate / hop.
    width, blocks, expansion: channels of each block, blocks a side, hidden channels over width.
    dim: channels of the features that the quantizer sees.
    """

    sample_rate: int = 16_000
    hop: int = 96
    width: int = 160
    blocks: int = 3
    expansion: int = 4
    dim: int = 32

    def __post_init__(self) -> None:
        check_counts(self)

    def build(self) -> tuple[nn.Module, nn.Module]:
        """A new encoder and decoder, their weights drawn from torch's global generator."""
        sizes = {name: getattr(self, name) for name in ("hop", "width", "blocks", "expansion", "dim")}
        return MDCTEncoder(**sizes), MDCTDecoder(**sizes)


class MDCTDecoder(nn.Module):
    """The mirror of `MDCTEncoder`: returns (frames - 1) * hop samples."""

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

    @property
    def reach(self) -> Reach:
        """Samples of a frame come from its window and from the next."""
        blocks = _reach(self.blocks)
        return Reach(blocks, blocks + 1)


def _reach(blocks: nn.Sequential) -> int:
    return sum(block.reach for block in blocks if isinstance(block, ConvNeXtBlock))
