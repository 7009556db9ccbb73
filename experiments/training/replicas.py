"""Forward and backward passes of a training, in one process or in several that share each batch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.studies.sections import Train
from experiments.training import distributed
from experiments.training.precision import autocast_dtype
from experiments.training.state import TrainingState

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Replicas:
    """The modules of `state` in all processes: each sees its share of a batch, their gradients are averaged,
    and they agree on every update.

    codec, adversary: to be called in place of those of the state.
    """

    def __init__(self, fabric: "Fabric", state: TrainingState, config: Train) -> None:
        self.fabric, self._state, self._config = fabric, state, config
        self._dtype = autocast_dtype(state.precision)
        adversary = state.losses.adversary
        self.codec: Any = fabric.setup_module(state.codec, move_to_device=False)
        self.adversary: Any = None
        if adversary is not None:
            self.adversary = fabric.setup_module(adversary, move_to_device=False)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of a forward pass. Each pass needs a context of its own: copies of weights in half
        precision are kept within one, also where an update has changed the weights."""
        dtype = self._dtype or torch.bfloat16
        return torch.autocast(self.fabric.device.type, dtype, enabled=self._dtype is not None)

    @contextmanager
    def accumulating(self, last: bool, adversarial: bool) -> Iterator[None]:
        """Within it, gradients are averaged over processes only in the `last` part of a step. adversarial:
        whether those of the discriminators are computed at all."""
        modules = [self.codec, *([self.adversary] if adversarial else [])]
        with ExitStack() as waiting:
            for module in modules:
                waiting.enter_context(self.fabric.no_backward_sync(module, enabled=not last))
            yield

    def backward(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the gradient of the sum of `terms` as one of the parts of a step; the sum."""
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        parts = self._state.parts(self._config)
        share = loss if parts == 1 else loss / parts
        scaler = self._state.scaler
        if not loss.requires_grad:  # all that this loss depends on is frozen
            return loss
        self.fabric.backward(share if scaler is None else scaler.scale(share))
        return loss

    def update(
        self, optimizers: Sequence[Optimizer], module: nn.Module, loss: Tensor, also: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Step the optimizers of `module` if its loss and gradient are finite in all processes, and `also`
        holds in all; whether that was done, and the gradient's norm before it is clipped.

        Both are scalars on the device, which decides by itself whether the weights move: the host does not
        wait for it.
        """
        if self._state.scaler is not None:
            for optimizer in optimizers:
                self._state.scaler.unscale_(optimizer)
        limit = math.inf if self._config.gradient_clip is None else self._config.gradient_clip
        norm = nn.utils.clip_grad_norm_(module.parameters(), limit)
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        if also is not None:
            finite = finite & also
        broken = distributed.anywhere(self.fabric, ~finite)
        for optimizer in optimizers:
            # As torch's GradScaler does it: where it is 1, a fused optimizer leaves everything as it is.
            optimizer.found_inf = broken.float()  # type: ignore[attr-defined]
            optimizer.step()
        return ~broken, norm
