"""Optimizers, learning rates over steps, and averages of weights."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codec.backbones.convnext import ConvNeXtBlock
from codec.backbones.vocos import ConvNeXtLayer
from codec.model import Codec
from experiments.muon import Muon
from experiments.sections import Train

AVERAGE_WARMUP = 10  # the average of t steps forgets at least as fast as (1 + t) / (10 + t)


def schedule(step: int, config: Train) -> float:
    """Share of the learning rate at `step`: a linear rise, then a fall along a line or half a cosine."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
        return rise * (config.final_learning_rate + (1 - config.final_learning_rate) * fall)
    return rise * max(config.final_learning_rate, 1 - step / config.steps)


def codec_optimizers(
    codec: Codec, config: Train, *, fused: bool, matrix_dtype: torch.dtype = torch.float32
) -> list[Optimizer]:
    """AdamW and, if asked for, Muon for the hidden matrices (Jordan et al. 2024), which learns a small
    codec in about half the steps. matrix_dtype: of Muon's iteration."""
    hidden: list[Tensor] = []
    if config.optimizer == "muon":
        blocks = [module for module in codec.modules() if isinstance(module, ConvNeXtBlock | ConvNeXtLayer)]
        hidden = [matrix for block in blocks for matrix in (block.expand.weight, block.contract.weight)]
    chosen = {id(parameter) for parameter in hidden}
    rest = [parameter for parameter in codec.parameters() if id(parameter) not in chosen]
    optimizers: list[Optimizer] = [
        torch.optim.AdamW(
            rest, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=fused
        )
    ]
    if hidden:
        optimizers.append(
            Muon(
                hidden,
                lr=config.matrix_learning_rate,
                weight_decay=config.weight_decay,
                dtype=torch.float32 if matrix_dtype is torch.float16 else matrix_dtype,
            )
        )
    return optimizers


def discriminator_optimizer(adversary: nn.Module, config: Train, *, fused: bool) -> Optimizer:
    """AdamW for all discriminators."""
    return torch.optim.AdamW(
        adversary.parameters(),
        lr=config.discriminator_learning_rate,
        betas=config.discriminator_betas,
        weight_decay=config.weight_decay,
        fused=fused,
    )


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
        theirs = model.state_dict()
        for name, mine in self.model.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], 1 - decay)
            else:
                mine.copy_(theirs[name])
