"""Stages that are left out at random in training, so that every number of first stages can be decoded
(Zeghidour et al. 2021, SoundStream, arXiv 2107.03312, section III-C)."""

from __future__ import annotations

import torch
from torch import Tensor


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
