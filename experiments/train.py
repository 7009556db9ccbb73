"""The training loop: same data order, same start and same schedule for every quantizer."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codec.convnext import ConvNeXtBlock
from codec.losses import SpectralLoss, SpectralLossConfig
from codec.model import Codec
from experiments import training_state
from experiments.data import Crops, Split
from experiments.study import Train
from experiments.training_state import Progress

VALIDATION_CROPS = 32


class Diverged(RuntimeError):
    """The loss or its gradient was not finite too many times in a row."""


class Interrupted(RuntimeError):
    """The training was asked to stop; its state is saved."""


class Observer(Protocol):
    """What a training tells while it runs."""

    def restored(self, step: int) -> None:
        """The training begins after `step` finished ones."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """New values."""

    def saving(self, step: int) -> None:
        """The state of `step` is about to be saved: a training that is killed later goes on from there."""

    def progress(self, step: int, steps: int, text: str) -> None:
        """A step is done."""

    def should_stop(self) -> bool:
        """Whether to save the state and raise `Interrupted`."""
        return False


@dataclass(frozen=True)
class Trained:
    """steps done; seconds spent over all sittings; seconds of audio seen; batches skipped; last losses."""

    steps: int
    seconds: float
    audio_seconds: float
    skipped: int


def train(
    codec: Codec,
    config: Train,
    *,
    train_split: Split,
    validation_split: Split,
    seed: int,
    identity: str,
    state_path: Path,
    observer: Observer,
    device: torch.device,
) -> Trained:
    """Train `codec` in place, from the state at `state_path` if there is one.

    The batch of a step depends on `seed` and the step alone. With the same number of threads, k + k steps
    over an interruption equal 2k steps bit for bit on CPU.

    Raises Diverged, Interrupted, and CheckpointError for a state that cannot be read or written.
    """
    samples = round(config.crop_seconds * codec.sample_rate / codec.hop) * codec.hop
    crops = Crops(train_split, samples=samples, batch_size=config.batch_size, seed=seed)
    validation = validation_batch(validation_split, samples)
    codec.to(device).train()
    criterion = SpectralLoss(
        SpectralLossConfig(mel_weight=config.mel_weight, complex_weight=config.complex_weight),
        codec.sample_rate,
    ).to(device)
    optimizers = make_optimizers(codec, config, fused=device.type == "cpu")
    base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    autocast = autocast_dtype(config.precision, device)

    torch.manual_seed(seed)
    progress = Progress()
    if state_path.exists():
        progress = training_state.restore(state_path, identity, codec, optimizers)
    observer.restored(progress.step)
    started, earlier, first = time.monotonic(), progress.seconds, progress.step
    in_a_row = 0

    def forward(audio: Tensor) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
        with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            output = codec(audio)
        losses = criterion(output.audio.float(), audio)
        losses["quantizer"] = output.quantized.loss
        return losses, output.quantized.diagnostics

    def save() -> None:
        progress.seconds = earlier + time.monotonic() - started
        observer.saving(progress.step)
        training_state.save(state_path, identity, codec, optimizers, progress)

    while progress.step < config.steps:
        if observer.should_stop():
            save()
            raise Interrupted(f"stopped after step {progress.step}; the same command goes on from there")
        for optimizer, rates in zip(optimizers, base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(progress.step, config)
            optimizer.zero_grad(set_to_none=True)
        losses, diagnostics = forward(torch.from_numpy(crops.batch(progress.step)).to(device))
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(codec.parameters(), config.gradient_clip)
        if bool(torch.isfinite(loss)) and bool(torch.isfinite(norm)):
            for optimizer in optimizers:
                optimizer.step()
            in_a_row = 0
        else:
            progress.skipped += 1
            in_a_row += 1
            observer.metrics(progress.step, {"train/skipped_batches": float(progress.skipped)})
            if in_a_row >= config.non_finite_limit:
                raise Diverged(
                    f"loss or gradient not finite in {in_a_row} steps in a row up to step {progress.step} "
                    f"(loss {loss.item():g}, gradient norm {norm.item():g})"
                )
        progress.step += 1
        step, last = progress.step, progress.step == config.steps
        rate = (step - first) / (time.monotonic() - started)
        if step % config.log_every == 0 or last:
            values = {"loss": loss, **losses, "gradient_norm": norm, **_scalars(diagnostics)}
            logged = {f"train/{name}": value.item() for name, value in values.items()}
            logged["train/steps_per_second"] = rate
            logged["train/audio_seconds_per_second"] = rate * config.batch_size * config.crop_seconds
            observer.metrics(step, logged)
        if step % config.validate_every == 0 or last:
            observer.metrics(step, _validate(codec, forward, validation.to(device)))
        if step % config.checkpoint_every == 0 and not last:
            save()
        speed = f"loss {loss.item():.3f}, {rate:.1f} steps/s"
        observer.progress(step, config.steps, speed)
    save()
    codec.eval()
    return Trained(
        steps=progress.step,
        seconds=progress.seconds,
        audio_seconds=progress.step * config.batch_size * samples / codec.sample_rate,
        skipped=progress.skipped,
    )


def schedule(step: int, config: Train) -> float:
    """Share of the learning rate at `step`: a linear rise, then a linear fall."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return rise * max(config.final_learning_rate, 1 - step / config.steps)


def make_optimizers(codec: Codec, config: Train, *, fused: bool) -> list[Optimizer]:
    """AdamW and, if asked for, Muon for the hidden matrices (Jordan et al. 2024), which learns a small
    codec in about half the steps."""
    hidden: list[Tensor] = []
    if config.optimizer == "muon":
        blocks = [module for module in codec.modules() if isinstance(module, ConvNeXtBlock)]
        hidden = [matrix for block in blocks for matrix in block.matrices()]
    chosen = {id(parameter) for parameter in hidden}
    rest = [parameter for parameter in codec.parameters() if id(parameter) not in chosen]
    optimizers: list[Optimizer] = [
        torch.optim.AdamW(rest, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)
    ]
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden, lr=config.matrix_learning_rate, weight_decay=config.weight_decay, momentum=0.95
            )
        )
    return optimizers


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype of the network's blocks, or None for fp32. `auto`: bf16 where the device computes in it."""
    if precision == "fp32":
        return None
    if precision == "auto":
        if device.type == "cpu":
            supported = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        else:
            supported = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if supported else None
    return torch.bfloat16


def validation_batch(split: Split, samples: int) -> Tensor:
    """The fixed crops [crops, samples] that every validation looks at."""
    crops = Crops(split, samples=samples, batch_size=VALIDATION_CROPS, seed=0)
    return torch.from_numpy(np.ascontiguousarray(crops.batch(0)))


def _validate(
    codec: Codec,
    forward: Callable[[Tensor], tuple[dict[str, Tensor], Mapping[str, Tensor]]],
    audio: Tensor,
) -> dict[str, float]:
    codec.eval()
    with torch.no_grad():
        losses, _ = forward(audio)
    codec.train()
    values = {f"validation/{name}": losses[name].item() for name in ("mel", "complex")}
    return {**values, "validation/loss": sum(values.values())}


def _scalars(diagnostics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in diagnostics.items() if value.ndim == 0}
