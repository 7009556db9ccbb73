"""Optimizers of codec and discriminators, and their learning rates over the steps.

All leave everything as it is where their `found_inf`, a scalar on the device, is 1: of torch's own only the
fused ones do.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codec.backbones.convnext import ConvNeXtBlock
from codec.backbones.vocos import ConvNeXtLayer
from codec.model import Codec
from experiments.studies.sections import Train
from experiments.training.muon import Muon


def schedule(step: int, config: Train, budget: int | None = None) -> float:
    """Share of the learning rate at `step`: a linear rise, then a fall along a line or half a cosine.

    budget: of `config.decay_at`, the last by default. The rate is constant then until it falls along a line
    over the last steps of the budget (warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395).
    """
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.decay_at:
        budget = config.steps if budget is None else budget
        start = config.decay_start(budget)
        fallen = max(0.0, (step - start) / (budget - start))
        return rise * (1 - (1 - config.final_learning_rate) * fallen)
    if config.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
        return rise * (config.final_learning_rate + (1 - config.final_learning_rate) * fall)
    return rise * max(config.final_learning_rate, 1 - step / config.steps)


def set_learning_rates(optimizers: Iterable[Optimizer], share: float) -> None:
    """Set every learning rate to `share` of the one that its optimizer was made with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * share


def codec_optimizers(
    codec: Codec, config: Train, *, matrix_dtype: torch.dtype = torch.float32
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
            rest, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
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


def discriminator_optimizer(adversary: nn.Module, config: Train) -> Optimizer:
    """AdamW for all discriminators."""
    return torch.optim.AdamW(
        adversary.parameters(),
        lr=config.discriminator_learning_rate,
        betas=config.discriminator_betas,
        weight_decay=config.weight_decay,
        fused=True,
    )
