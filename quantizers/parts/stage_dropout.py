"""Stages that are left out at random in training, so that every number of first stages can be decoded
(Zeghidour et al. 2021, SoundStream, arXiv 2107.03312, section III-C).

A stage is a codebook of a residual quantizer, or a channel, a pair or a block of channels of a product code.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quantizers.contract import Quantizer


def kept_stages(batch: int, stages: int, share: float, device: torch.device) -> Tensor | None:
    """Which stages each clip is decoded from, [stages, batch, 1, 1] bool; None where all are.

    share: the probability that a clip has a random number of stages, evenly from 1 to `stages`, not all of
    them: 1 as in SoundStream, 0.5 as in DAC (Kumar et al. 2023, arXiv 2306.06546, section 3.2).
    """
    if not share or stages < 2:
        return None
    number = torch.randint(1, stages + 1, (batch,), device=device)
    number = torch.where(torch.rand(batch, device=device) < share, number, stages)
    return (torch.arange(stages, device=device).unsqueeze(1) < number).view(stages, batch, 1, 1)


class DroppedChannels:
    """Stages that are channels, for a `ChannelQuantizer` whose options have `dropout`.

    A subclass gives `first_of`. The stages are its blocks of `steps`, in order. A stage that is left out
    counts as zero in every channel, so the linear map behind adds nothing but its bias, and the quantizer of
    the first stages is the same map without the other columns. Without dropout no channel can be left out.
    """

    stage_name: ClassVar[str] = "channels"

    dim: int
    config: Any
    project_in: nn.Linear
    project_out: nn.Linear
    training: bool

    @classmethod
    def first_of(cls, config: Any, stages: int) -> Any:
        """The options of the first `stages` of `config`."""
        raise NotImplementedError

    @classmethod
    def stages_of(cls, config: Any) -> int:
        """Number of channels, pairs or blocks under the options `config`."""
        raise NotImplementedError

    @classmethod
    def depth_of(cls, config: Any) -> int:
        """Number of stages, if training has left out any."""
        return cls.stages_of(config) if config.dropout else 1

    @property
    def keeps_order(self) -> bool:
        return bool(self.config.dropout)

    @property
    def drops(self) -> bool:
        """Whether stages are left out now."""
        return self.training and self.config.dropout > 0

    def cut(self, stages: int) -> Quantizer:
        """The quantizer of the first `stages`; its linear maps are parts of those of this one."""
        part: Any = type(self)(self.dim, self.first_of(self.config, stages))  # type: ignore[call-arg]
        count = part.project_in.out_features
        part.project_in.weight = nn.Parameter(self.project_in.weight.detach()[:count])
        part.project_in.bias = nn.Parameter(self.project_in.bias.detach()[:count])
        part.project_out.weight = nn.Parameter(self.project_out.weight.detach()[:, :count])
        part.project_out.bias = self.project_out.bias
        return part

    def without_dropped(self, values: Tensor) -> Tensor:
        """`values` [batch, frames, channels], in training with the stages that a clip lacks at zero."""
        if not self.drops:
            return values
        whole: Any = self
        steps = whole.steps
        kept = kept_stages(len(values), len(steps), self.config.dropout, values.device)
        if kept is None:
            return values
        mask = kept[..., 0].permute(1, 2, 0).repeat_interleave(len(steps[0]), -1)
        return torch.where(mask, values, 0.0)
