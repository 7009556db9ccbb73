"""The training loop: same data order, same start and same schedule for every quantizer."""

import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codec.model import Codec
from experiments.data.dataset import Split
from experiments.data.streaming import TarSplit, joined
from experiments.studies.sections import Train
from experiments.training import distributed, validation
from experiments.training.checkpoint import Checkpoint
from experiments.training.decays import BranchPoint, DecayedWeights
from experiments.training.freezing import freeze
from experiments.training.observer import Interrupted, Observer, Trained, log_metrics, warn
from experiments.training.on_device.arithmetic import arithmetic
from experiments.training.on_device.batches import DeviceBatches
from experiments.training.on_device.memory import FittingParts
from experiments.training.outcomes import Outcomes
from experiments.training.precision import compiled, device_name
from experiments.training.replicas import Replicas
from experiments.training.state import TrainingState, initial_state, random_state
from experiments.training.step import Update, step

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train(
    codec: Codec,
    config: Train,
    *,
    train_split: Split | TarSplit,
    validation_split: Split,
    seed: int,
    fabric: "Fabric",
    checkpoint: Checkpoint,
    observers: Sequence[Observer] = (),
    threads: int | None = None,
) -> Trained:
    """Train `codec` in place, from the state in `checkpoint` if there is one.

    The batch of a step depends on `seed` and the step alone, and so do the first weights of the
    discriminators. With the same number of threads and processes, k + k steps over an interruption equal 2k
    steps bit for bit on CPU. With a moving average of weights, that is what `codec` holds in the end.

    fabric: the processes (`experiments.training.distributed`). Each calls this, with observers of its own;
    only those of the first hear of validations, warnings and saved states. threads: that decode a streamed
    corpus; by default one for each core that this process may use.

    Raises Diverged, Interrupted, ProcessError, and CheckpointError for a state that cannot be read or
    written.
    """
    samples = round(config.crop_seconds * codec.sample_rate / codec.hop) * codec.hop
    crops = _share_of_batches(train_split, samples, config, seed, fabric, threads)
    validation_audio = validation.batch(validation_split, samples)
    with closing(crops), arithmetic(config, fabric.device):
        return _train(codec, config, crops, validation_audio, seed, fabric, checkpoint, observers)


def _train(
    codec: Codec,
    config: Train,
    crops: DeviceBatches,
    validation_audio: Tensor,
    seed: int,
    fabric: "Fabric",
    checkpoint: Checkpoint,
    observers: Sequence[Observer],
) -> Trained:
    """`train` on `crops`; validation_audio: [crops, samples]."""
    freeze(codec, config, 0, fabric.world_size)
    state = initial_state(codec, config, seed=seed, device=fabric.device)
    replicas = Replicas(fabric, state, config)
    torch.manual_seed(seed + fabric.global_rank)
    first = observers if fabric.is_global_zero else ()  # hear of what one process does for all

    with compiled(codec, state.losses, config.compile):
        warnings = _restore(state, crops, checkpoint, fabric)
        for observer in observers:
            observer.restored(state.step)
        for name, text in warnings:
            warn(first, state.step, name, text)
        clock = _Clock(state, config)
        decayed = DecayedWeights(checkpoint.path.parent)
        outcomes = Outcomes(state, config, crops, fabric, observers)
        fitting = FittingParts(state, config, fabric.device, first)
        saved = (state, crops, checkpoint, fabric, observers, outcomes)
        while state.step < config.steps:
            clock.read()
            for budget in decayed.missing(config, state.step, fabric):
                _save(*saved)
                branch = (decayed, state, replicas, crops, config, fitting, observers, outcomes)
                clock.leave_out(_decay(budget, *branch))
            if _asked_to_stop(fabric, observers):
                _save(*saved)
                raise Interrupted(f"stopped after step {state.step}; start the same command again to resume")
            update = _advance(state, replicas, crops, config, fitting)
            last = state.step == config.steps
            speed = clock.speed()
            logged = state.step % config.log_every == 0 or last
            outcomes.add(update, speed if logged else None)
            if state.step % config.validate_every == 0 or last:
                outcomes.settle()
                validation.check_finite(state.evaluated_codec, state.step)
                if fabric.is_global_zero:
                    _validate(state, replicas, validation_audio, first)
            clock.read()
            if state.step % config.checkpoint_every == 0 and not last:
                _save(*saved)
            text = "{}{}{:.1f} steps/s, {:.0f} s of audio/s".format(
                outcomes.described(), fitting.described(), *speed.values()
            )
            for observer in observers:
                observer.progress(state.step, config.steps, text)
        _save(*saved)

    if state.average is not None:
        codec.load_state_dict(state.average.model.state_dict())
    codec.eval()
    validation.check_finite(codec, state.step)
    return Trained(
        steps=state.step,
        seconds=state.seconds,
        audio_seconds=state.step * config.batch_size * validation_audio.shape[-1] / codec.sample_rate,
        skipped=state.skipped,
        precision=state.precision,
        device=device_name(fabric.device),
        starting_weights=state.starting_weights,
    )


def _advance(
    state: TrainingState,
    replicas: Replicas,
    crops: DeviceBatches,
    config: Train,
    fitting: FittingParts,
    budget: int | None = None,
) -> Update:
    """Make one step, towards `budget` if that is not the last."""
    freeze(state.codec, config, state.step, replicas.fabric.world_size)
    audio = crops.batch(state.step)

    def made() -> Update:
        update = step(state, replicas, audio, config, budget)
        if state.average is not None:
            state.average.update(state.codec, state.step + 1, update.finite)
        state.step += 1
        return update

    return fitting.make(made)


def _decay(
    budget: int,
    decayed: DecayedWeights,
    state: TrainingState,
    replicas: Replicas,
    crops: DeviceBatches,
    config: Train,
    fitting: FittingParts,
    observers: Sequence[Observer],
    outcomes: Outcomes,
) -> float:
    """Train on to `budget` with a falling rate, keep the weights, and come back; the seconds that it took.

    Raises Interrupted: the state that was saved before is the one to go on from, and the decay begins again.
    """
    fabric = replicas.fabric
    start, left = state.step, BranchPoint(state, fabric.device)
    while state.step < budget:
        if _asked_to_stop(fabric, observers):
            raise Interrupted(f"stopped after step {start}; start the same command again to resume")
        outcomes.add(_advance(state, replicas, crops, config, fitting, budget))
        for observer in observers:
            observer.progress(start, config.steps, f"decay to {budget} steps, at {state.step}")
    outcomes.settle()
    validation.check_finite(state.evaluated_codec, state.step)
    if fabric.is_global_zero:
        decayed.write(budget, state.evaluated_codec, state.seconds + left.seconds)
    left.come_back()
    if state.data:
        crops.seek(state.data)
    state.codec.train()
    return left.seconds


def _asked_to_stop(fabric: "Fabric", observers: Sequence[Observer]) -> bool:
    """Ask all observers of all processes."""
    return distributed.any_of(fabric, any(observer.should_stop() for observer in observers))


def _share_of_batches(
    split: Split | TarSplit, samples: int, config: Train, seed: int, fabric: "Fabric", threads: int | None
) -> DeviceBatches:
    """This process's share of every batch of crops of `samples` samples, on its device."""
    if config.accumulate == "auto" and fabric.world_size > 1:
        raise distributed.ProcessError(
            "train.accumulate: auto is for one process: of several, each might come to another number; give "
            "it a number, such as the one that a single process logs as train/accumulate"
        )
    each = 1 if config.accumulate == "auto" else config.accumulate
    parts = each * fabric.world_size
    if config.batch_size % parts:
        raise distributed.ProcessError(
            f"train.batch_size {config.batch_size} cannot be divided among {fabric.world_size} processes "
            f"with {each} parts each; make it a multiple of {parts}"
        )
    crops = split.crops(
        samples=samples,
        batch_size=config.batch_size,
        seed=seed,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        threads=threads,
    )
    return DeviceBatches(crops, fabric.device)


def _restore(
    state: TrainingState, crops: DeviceBatches, checkpoint: Checkpoint, fabric: "Fabric"
) -> list[tuple[str, str]]:
    """Go on from the checkpoint, if there is one; warnings, each with its kind."""
    precision = state.precision
    warnings = [("checkpoint", text) for text in checkpoint.restore(state, fabric)]
    if state.data:
        crops.seek(state.data)
    before = state.precision
    if before and before.split(" then ")[-1] != precision:
        state.precision = f"{before} then {precision}"
        text = (
            f"begun in {before}, goes on in {precision}, which is what this device has; "
            "train.precision: fp32 is the same everywhere"
        )
        warnings.append(("precision", text))
    return warnings


def _save(
    state: TrainingState,
    crops: DeviceBatches,
    checkpoint: Checkpoint,
    fabric: "Fabric",
    observers: Sequence[Observer],
    outcomes: Outcomes,
) -> None:
    """Save the state of all processes, once the outcomes of all steps are known; the first one writes it."""
    outcomes.settle()
    randoms = distributed.gather(fabric, random_state(fabric.device))
    state.data = joined(distributed.gather(fabric, crops.cursor()))
    if fabric.is_global_zero:
        if skipped := state.data.get("skipped"):
            log_metrics(observers, state.step, {"train/skipped_clips": float(skipped)})
        for observer in observers:
            observer.saving(state.step)
        checkpoint.save(state, randoms)


def _validate(state: TrainingState, replicas: Replicas, audio: Tensor, first: Sequence[Observer]) -> None:
    """Log losses and codebook use on the validation crops; warn of codebooks that collapse and of channels
    that saturate."""
    with replicas.autocast():
        values, shares, saturation = validation.measure(
            state.evaluated_codec, state.losses, audio.to(replicas.fabric.device)
        )
    state.codec.train()
    log_metrics(first, state.step, values)
    collapsed = [share for share in shares if share < validation.COLLAPSE]
    if collapsed and not state.collapsed:
        text = (
            f"{len(collapsed)} of {len(shares)} codebooks have collapsed: perplexity below "
            f"{validation.COLLAPSE:.0%} of a uniform source's, {min(collapsed):.1%} in one of them"
        )
        warn(first, state.step, "codebook_collapse", text)
    state.collapsed = bool(collapsed)
    if saturation and not state.saturated:
        warn(first, state.step, "saturated_channels", saturation)
    state.saturated = bool(saturation)


class _Clock:
    """The time of this sitting, kept in the state beside that of earlier ones."""

    def __init__(self, state: TrainingState, config: Train) -> None:
        self._state, self._audio = state, config.batch_size * config.crop_seconds  # seconds per step
        self._started, self._earlier, self._first = time.monotonic(), state.seconds, state.step

    def read(self) -> None:
        """Bring `seconds` of the state up to date."""
        self._state.seconds = self._earlier + time.monotonic() - self._started

    def leave_out(self, seconds: float) -> None:
        """Take `seconds` that were spent on something else out of the time of this sitting."""
        self._started += seconds

    def speed(self) -> dict[str, float]:
        """Steps, and seconds of audio, a second of this sitting, as metrics."""
        rate = (self._state.step - self._first) / (time.monotonic() - self._started)
        return {"train/steps_per_second": rate, "train/audio_seconds_per_second": rate * self._audio}
