"""The training loop: same data order, same start and same schedule for every quantizer."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codec.losses.objectives import Losses
from codec.model import Codec
from experiments.data.dataset import Split
from experiments.data.streaming import TarSplit, joined
from experiments.studies.sections import Train
from experiments.training import distributed as processes
from experiments.training import state as training_state
from experiments.training import validation
from experiments.training.observer import Diverged, Interrupted, Observer, Trained
from experiments.training.optimizers import codec_optimizers, discriminator_optimizer, schedule
from experiments.training.precision import autocast_dtype, compiled, resolved
from experiments.training.state import CheckpointError, Parts, Progress
from experiments.training.weight_average import WeightAverage
from quantizers.parts.codebook import EMACodebooks

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FIRST_SCALE = 2.0**10  # of the loss in fp16: it doubles by itself, and each halving costs a batch

_log = logging.getLogger("codecbench.train")


def train(
    codec: Codec,
    config: Train,
    *,
    train_split: Split | TarSplit,
    validation_split: Split,
    seed: int,
    configuration: Mapping[str, Any],
    state_path: Path,
    observer: Observer,
    fabric: "Fabric",
    run_id: str = "",
) -> Trained:
    """Train `codec` in place, from the state at `state_path` if there is one.

    The batch of a step depends on `seed` and the step alone, and so do the first weights of the
    discriminators. With the same number of threads and processes, k + k steps over an interruption equal 2k
    steps bit for bit on CPU. With a moving average of weights, that is what `codec` holds in the end.

    configuration: what decides the result; a state of another one is refused. run_id: of MLflow.
    fabric: the processes (`experiments.processes`); each calls this, and all but the first with `Silent`.

    Raises Diverged, Interrupted, ProcessError, and CheckpointError for a state that cannot be read or
    written.
    """
    training = _Training(codec, config, train_split, validation_split, seed, observer, fabric)
    training.checkpoint = _Checkpoint(state_path, configuration, run_id)
    with compiled(codec, training.losses, config.compile):
        return training.run()


@dataclass(frozen=True)
class _Checkpoint:
    path: Path
    configuration: Mapping[str, Any]
    run_id: str


class _Training:
    """One sitting of a training, in one of its processes."""

    checkpoint: _Checkpoint

    def __init__(
        self,
        codec: Codec,
        config: Train,
        train_split: Split | TarSplit,
        validation_split: Split,
        seed: int,
        observer: Observer,
        fabric: "Fabric",
    ) -> None:
        self.codec, self.config, self.observer, self.fabric = codec, config, observer, fabric
        self.device: torch.device = fabric.device
        if config.batch_size % (config.accumulate * fabric.world_size):
            raise processes.ProcessError(
                f"train.batch_size {config.batch_size} cannot be shared by {fabric.world_size} processes in "
                f"{config.accumulate} parts each; make it a multiple of "
                f"{config.accumulate * fabric.world_size}"
            )
        self.samples = round(config.crop_seconds * codec.sample_rate / codec.hop) * codec.hop
        self.crops = train_split.crops(
            samples=self.samples,
            batch_size=config.batch_size,
            seed=seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        self.validation = validation.batch(validation_split, self.samples)
        self.precision = resolved(config.precision, self.device)
        self.autocast = autocast_dtype(self.precision)

        codec.to(self.device).train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # whatever the quantizer has drawn
            self.losses = Losses(config.objective.objective(), codec.sample_rate).to(self.device)
        self.average = WeightAverage(codec, config.ema_decay) if config.ema_decay else None
        self.codebooks = [part for part in codec.modules() if isinstance(part, EMACodebooks)]
        fused = self.device.type in ("cpu", "cuda")
        self.optimizers = codec_optimizers(
            codec, config, fused=fused, matrix_dtype=self.autocast or torch.float32
        )
        self.discriminator_optimizers: list[Optimizer] = []
        self.wrapped = fabric.setup_module(codec, move_to_device=False)
        adversary = self.losses.adversary
        if adversary is not None:
            self.discriminator_optimizers = [discriminator_optimizer(adversary, config, fused=fused)]
            self.wrapped_adversary = fabric.setup_module(adversary, move_to_device=False)
        scaled = self.autocast is torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=FIRST_SCALE) if scaled else None
        self.parts = Parts(
            modules={
                "model": codec,
                **({"adversary": adversary} if adversary is not None else {}),
                **({"average": self.average} if self.average is not None else {}),
            },
            optimizers=[*self.optimizers, *self.discriminator_optimizers],
            scaler=self.scaler,
        )
        self.rates = [[g["lr"] for g in optimizer.param_groups] for optimizer in self.parts.optimizers]
        torch.manual_seed(seed + fabric.global_rank)
        self.progress = Progress(precision=self.precision)

    def run(self) -> Trained:
        config, observer = self.config, self.observer
        self._restore()
        progress = self.progress
        observer.restored(progress.step)
        started, earlier, first = time.monotonic(), progress.seconds, progress.step
        while progress.step < config.steps:
            progress.seconds = earlier + time.monotonic() - started
            if processes.any_of(self.fabric, observer.should_stop()):
                self._save()
                raise Interrupted(f"stopped after step {progress.step}; the same command goes on from there")
            values = self._step()
            progress.step += 1
            step, last = progress.step, progress.step == config.steps
            rate = (step - first) / (time.monotonic() - started)
            audio_rate = rate * config.batch_size * config.crop_seconds
            if step % config.log_every == 0 or last:
                logged = {
                    f"train/{name}": value for name, value in processes.mean(self.fabric, values).items()
                }
                logged["train/steps_per_second"] = rate
                logged["train/audio_seconds_per_second"] = audio_rate
                observer.metrics(step, logged)
            if (step % config.validate_every == 0 or last) and self.fabric.is_global_zero:
                self._validate()
            progress.seconds = earlier + time.monotonic() - started
            if step % config.checkpoint_every == 0 and not last:
                self._save()
            observer.progress(step, config.steps, _shown(values, rate, audio_rate))
        self._save()
        if self.average is not None:
            self.codec.load_state_dict(self.average.model.state_dict())
        self.codec.eval()
        return Trained(
            steps=progress.step,
            seconds=progress.seconds,
            audio_seconds=progress.step * config.batch_size * self.samples / self.codec.sample_rate,
            skipped=progress.skipped,
            precision=progress.precision,
        )

    def _step(self) -> dict[str, Tensor]:
        """One update of the discriminators and then of the codec, from one forward pass. What it showed."""
        step, config = self.progress.step, self.config
        share = schedule(step, config)
        for optimizer, rates in zip(self.parts.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
            optimizer.zero_grad(set_to_none=True)
        for books in self.codebooks:
            books.hold()
        adversary = self.losses.adversary_at(step)
        synchronised = [self.wrapped, *([self.wrapped_adversary] if adversary is not None else [])]
        audio = torch.from_numpy(self.crops.batch(step)).to(self.device)
        seen = _Means(config.accumulate)
        finite = True
        for number, part in enumerate(audio.chunk(config.accumulate), 1):
            last = number == config.accumulate
            with ExitStack() as waiting:
                for module in synchronised:
                    waiting.enter_context(self.fabric.no_backward_sync(module, enabled=not last))
                with self._autocast():
                    output = self.wrapped(part)
                if adversary is not None:
                    with self._autocast():
                        terms = self.wrapped_adversary(part, output.audio)
                    self._backward(terms, seen)
                    if last:
                        loss = seen.sum("discriminator/")
                        finite, norm = self._update(self.discriminator_optimizers, adversary, loss)
                        seen.add({"discriminator_gradient_norm": norm * config.accumulate})
                with self._autocast():
                    terms = self.losses.generator(output, part, step)
                seen.add({"loss": self._backward(terms, seen), **_scalars(output.quantized.diagnostics)})
        values = {"loss": seen.values.pop("loss"), **seen.values}
        finite, norm = self._update(self.optimizers, self.codec, values["loss"], finite)
        values["gradient_norm"] = norm
        for books in self.codebooks:
            books.move() if finite else books.drop()
        if self.scaler is not None:
            values["loss_scale"] = torch.tensor(self.scaler.get_scale())
            self.scaler.update()
        if finite:
            self.progress.skipped_in_a_row = 0
            if self.average is not None:
                self.average.update(self.codec, step + 1)
        else:
            self._skip(values)
        return values

    def _backward(self, terms: Mapping[str, Tensor], seen: "_Means") -> Tensor:
        """Add the gradient of the sum of `terms` over the step's parts; the sum."""
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        scaled = loss if self.config.accumulate == 1 else loss / self.config.accumulate
        self.fabric.backward(scaled if self.scaler is None else self.scaler.scale(scaled))
        seen.add(terms)
        return loss

    def _update(
        self, optimizers: Sequence[Optimizer], module: nn.Module, loss: Tensor, finite: bool = True
    ) -> tuple[bool, Tensor]:
        """Step the optimizers of `module` if the loss and the gradient are finite in all processes; whether
        they are, and the gradient's norm."""
        if self.scaler is not None:
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)
        limit = math.inf if self.config.gradient_clip is None else self.config.gradient_clip
        norm = nn.utils.clip_grad_norm_(module.parameters(), limit)
        broken = not (finite and bool(torch.isfinite(loss)) and bool(torch.isfinite(norm)))
        broken = processes.any_of(self.fabric, broken)
        if not broken:
            for optimizer in optimizers:
                optimizer.step()
        return not broken, norm

    def _skip(self, values: Mapping[str, Tensor]) -> None:
        """Count and name the batch of this step, which changed nothing."""
        progress = self.progress
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        shown = f"loss {values['loss'].item():g}, gradient norm {values['gradient_norm'].item():g}"
        self.observer.metrics(progress.step, {"train/skipped_batches": float(progress.skipped)})
        self._warn(
            progress.step, "skipped_batch", f"{shown}; skipped the batch {self.crops.describe(progress.step)}"
        )
        falling = self.scaler is not None and self.scaler.get_scale() > 1  # fp16 may still find its scale
        if progress.skipped_in_a_row >= self.config.non_finite_limit and not falling:
            raise Diverged(
                f"loss or gradient not finite in {progress.skipped_in_a_row} steps in a row up to step "
                f"{progress.step} ({shown})"
            )

    def _validate(self) -> None:
        model = self.codec if self.average is None else self.average.model
        assert isinstance(model, Codec)
        with self._autocast():
            values, shares = validation.measure(model, self.losses, self.validation.to(self.device))
        self.codec.train()
        step = self.progress.step
        self.observer.metrics(step, values)
        collapsed = [share for share in shares if share < validation.COLLAPSE]
        if collapsed and not self.progress.collapsed:
            self._warn(
                step,
                "codebook_collapse",
                f"{len(collapsed)} of {len(shares)} codebooks have collapsed: perplexity below "
                f"{validation.COLLAPSE:.0%} of a uniform source's, {min(collapsed):.1%} in one of them",
            )
        self.progress.collapsed = bool(collapsed)

    def _warn(self, step: int, name: str, text: str) -> None:
        if self.fabric.is_global_zero:
            _log.warning("step %d: %s", step, text)
            self.observer.warning(step, name, text)

    def _restore(self) -> None:
        checkpoint, fabric = self.checkpoint, self.fabric
        found = processes.gather(fabric, checkpoint.path.exists())
        if not any(found):
            self.progress.run_id = checkpoint.run_id
            return
        if not all(found):
            raise CheckpointError(
                f"{checkpoint.path} is not there in all processes; give a folder for --runs that all "
                "machines share"
            )
        self.progress = training_state.restore(
            checkpoint.path,
            checkpoint.configuration,
            self.parts,
            rank=fabric.global_rank,
            device=self.device,
        )
        self.crops.seek(self.progress.data)
        if checkpoint.run_id and self.progress.run_id != checkpoint.run_id:
            _log.info("begun in MLflow run %s, goes on in %s", self.progress.run_id, checkpoint.run_id)
            self.progress.run_id = checkpoint.run_id
        before = self.progress.precision
        if before and before.split(" then ")[-1] != self.precision:
            self.progress.precision = f"{before} then {self.precision}"
            self._warn(
                self.progress.step,
                "precision",
                f"begun in {before}, goes on in {self.precision}, which is what this device has; "
                "train.precision: fp32 is the same everywhere",
            )

    def _save(self) -> None:
        randoms = processes.gather(self.fabric, training_state.random_state(self.device))
        self.progress.data = joined(processes.gather(self.fabric, self.crops.cursor()))
        if self.fabric.is_global_zero:
            if skipped := self.progress.data.get("skipped"):
                self.observer.metrics(self.progress.step, {"train/skipped_clips": float(skipped)})
            self.observer.saving(self.progress.step)
            checkpoint = self.checkpoint
            training_state.save(checkpoint.path, checkpoint.configuration, self.parts, self.progress, randoms)

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = self.autocast
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)


class _Means:
    """Means over the parts of a step, by name."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.values: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach() if self.parts == 1 else value.detach() / self.parts
            self.values[name] = self.values[name] + value if name in self.values else value

    def sum(self, prefix: str) -> Tensor:
        return torch.stack([v for name, v in self.values.items() if name.startswith(prefix)]).sum()


def _scalars(diagnostics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in diagnostics.items() if value.ndim == 0}


def _shown(values: Mapping[str, Tensor], rate: float, audio_rate: float) -> str:
    """Losses and speed, for a line of progress."""
    names = [name for name in values if "norm" not in name]
    numbers = torch.stack([values[name].float() for name in names]).tolist()
    losses = ", ".join(f"{name} {number:.3f}" for name, number in zip(names, numbers, strict=True))
    return f"{losses}, {rate:.1f} steps/s, {audio_rate:.0f} s of audio/s"
