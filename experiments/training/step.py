"""One step of a training: an update of the discriminators and of the codec."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.studies.sections import Train
from experiments.training.freezing import drop_gradients
from experiments.training.optimizers import schedule, set_learning_rates
from experiments.training.replicas import Replicas
from experiments.training.state import TrainingState


@dataclass(frozen=True)
class Update:
    """The outcome of a step.

    values: losses, diagnostics and norms of gradients, by name. finite: whether all processes found loss and
    gradient finite; if not, neither the codec nor its codebooks have moved. next_scale: of the loss in fp16.
    All are scalars on the device, which may not have computed them yet.
    """

    values: dict[str, Tensor]
    finite: Tensor
    next_scale: Tensor | None = None


def step(
    state: TrainingState, replicas: Replicas, audio: Tensor, config: Train, budget: int | None = None
) -> Update:
    """Update the discriminators, then the codec against the updated ones, from one forward pass.

    audio: [crops, samples], this process's share of the batch. It passes in equal parts (`train.accumulate`),
    whose gradients add up; codebooks that are moving averages move once, by all parts. budget: as in
    `schedule`.
    """
    codebooks, parts = state.codebooks, state.parts(config)
    set_learning_rates(state.optimizers, schedule(state.step, config, budget))
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    for codebook in codebooks:
        codebook.hold()

    adversary = state.losses.adversary_at(state.step)
    means = _Means(parts)
    finite: Tensor | None = None
    for number, part in enumerate(audio.chunk(parts), 1):
        last = number == parts
        with replicas.accumulating(last, adversarial=adversary is not None):
            with replicas.autocast():
                output = replicas.codec(part)
            if adversary is not None:
                with replicas.autocast():
                    terms = replicas.adversary(part, output.audio)
                replicas.backward(terms)
                means.add(terms)
                if last:
                    loss = means.sum("discriminator/")
                    finite, norm = replicas.update(state.discriminator_optimizers, adversary, loss)
                    means.values["discriminator_gradient_norm"] = norm
            with replicas.autocast():
                terms = state.losses.generator(output, part, state.step)
            if config.rate_weight and state.codec.quantizer.streams:
                bits = state.codec.quantizer.estimated_bits(output.features)
                terms["rate"] = config.rate_weight * bits
                means.add({"estimated_bits_per_frame": bits})
            loss = replicas.backward(terms)
            means.add(terms)
            means.add({"loss": loss, **_scalars(output.quantized.diagnostics)})

    values = {"loss": means.values.pop("loss"), **means.values}
    drop_gradients(state.codec, config, state.step)
    moved, norm = replicas.update(state.codec_optimizers, state.codec, values["loss"], also=finite)
    values["gradient_norm"] = norm
    for codebook in codebooks:
        codebook.move(moved)
    if state.scaler is None:
        return Update(values, moved)
    one = torch.ones((), device=audio.device)
    values["loss_scale"] = state.scaler.scale(one)
    state.scaler.update()
    return Update(values, moved, next_scale=state.scaler.scale(one))


def overweight(values: Mapping[str, float], config: Train) -> str:
    """What to say of a first step from trained weights whose quantizer loss outweighs all other terms; else
    empty.

    Commitment losses are in squared units of the features. A new backbone's are about one, and those of a
    trained one may be anything: the loss then pulls trained weights towards the codes.
    """
    loss, own = values["loss"], values.get("quantizer")
    if config.warm_start is None or own is None or not own > 0.5 * loss:
        return ""
    return (
        f"the quantizer's own loss is {own / loss:.0%} of the loss at the first step from trained "
        "weights, in squared units of their features; lower the weight quantizer of train.objective.options, "
        "for example to 1 over the features' mean square"
    )


class _Means:
    """Means over the parts of a step, by name."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self.values: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the values of one part."""
        for name, value in values.items():
            value = value.detach() if self._parts == 1 else value.detach() / self._parts
            self.values[name] = self.values[name] + value if name in self.values else value

    def sum(self, prefix: str) -> Tensor:
        """The sum of the means whose names begin with `prefix`."""
        return torch.stack([v for name, v in self.values.items() if name.startswith(prefix)]).sum()


def _scalars(diagnostics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in diagnostics.items() if value.ndim == 0}
