"""Operations of a training step, counted on tensors that have shapes and no values.

Matrix products and convolutions are counted by torch's own formulas. What is not: the recurrent layer and
the quantizer (each below 1 % of a step of the published recipe), Fourier transforms, and the optimizer.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from codec import backbones
from codec.losses.objectives import Losses, Objective


class _Counter(TorchDispatchMode):
    """Adds up the operations of all calls below it."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def of_codec(name: str, options: Mapping[str, Any], samples: int) -> float:
    """FLOP of a forward and a backward pass of one crop of `samples` through the backbone `name`."""
    encoder, decoder = backbones.get(name, options).build()
    whole = nn.Sequential(encoder, decoder).eval()  # training draws numbers and reads them
    with FakeTensorMode(allow_non_fake_inputs=True) as shapes, _Counter() as counter:
        _without_values(whole, shapes)(torch.zeros(1, samples)).sum().backward()
    return float(counter.total)


def of_objective(objective: Objective, sample_rate: int, samples: int) -> float:
    """FLOP of the losses of one crop of `samples` at `sample_rate` Hz, those of the discriminators' own step
    included."""
    losses = Losses(objective, sample_rate)
    with FakeTensorMode(allow_non_fake_inputs=True) as shapes, _Counter() as counter:
        _without_values(losses, shapes)
        reference, audio = torch.zeros(1, samples), torch.zeros(1, samples, requires_grad=True)
        if losses.adversary is not None:
            _sum(losses.adversary(reference, audio.detach())).backward()
            _sum(losses.adversary.generator_losses(reference, audio)).backward()
        _sum(losses.reconstruction(audio, reference)).backward()
    return float(counter.total)


def _sum(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([term.float() for term in terms.values()]).sum()


def _without_values(module: nn.Module, shapes: FakeTensorMode) -> nn.Module:
    """`module` with tensors of the same shapes that hold nothing."""
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                setattr(part, name, nn.Parameter(shapes.from_tensor(parameter.detach())))
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = shapes.from_tensor(buffer)
    return module
