"""Muon (Jordan et al. 2024), which takes steps of equal size in every direction of a matrix.

torch's own always iterates in bfloat16, which a CPU without bfloat16 units emulates: it then takes nine
tenths of a training step. This one iterates in a dtype of choice, and on all matrices of one shape at once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# The quintic iteration of Jordan et al. 2024: steepest at zero, singular values end between 0.7 and 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(Optimizer):
    """Momentum whose matrices are brought near orthogonality, with decoupled weight decay.

    params: matrices [rows, columns]. dtype: of the iteration. A matrix with more rows than columns takes
    steps larger by sqrt(rows / columns). Raises ValueError for parameters that are not matrices.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"Muon updates matrices, not a tensor of shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step from the gradients that there are.

        As for torch's fused optimizers, an attribute `found_inf`, a scalar on the device, makes a step that
        changes nothing where it is 1.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, parameters in shapes.items():
                momenta = [self._momentum(p, group["momentum"], found_inf) for p in parameters]
                updates = torch.stack(momenta)
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for parameter, update in zip(parameters, orthogonalise(updates, self.dtype), strict=True):
                    decayed = parameter * (1 - group["lr"] * group["weight_decay"])
                    _put(parameter, decayed.sub_(update, alpha=rate), found_inf)
        return loss

    def _momentum(self, parameter: Tensor, momentum: float, found_inf: Tensor | None) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        _put(buffer, buffer.lerp(parameter.grad, 1 - momentum), found_inf)
        return parameter.grad.lerp(buffer, momentum)  # Nesterov's


def _put(old: Tensor, new: Tensor, found_inf: Tensor | None) -> None:
    """Put the values of `new` into `old`, unless `found_inf` is 1: on the device, the host does not ask."""
    old.copy_(new if found_inf is None else torch.where(found_inf > 0, old, new))


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """`matrices` [n, rows, columns] with singular values near 1, of the same dtype, computed in `dtype`."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)).to(dtype)
    exact = dtype in (torch.float32, torch.float64)
    x = _by_gram(x) if exact and 2 * x.shape[-2] <= x.shape[-1] else _by_matrix(x)
    return (x.mT if tall else x).to(matrices.dtype)


def _by_matrix(x: Tensor) -> Tensor:
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x


def _by_gram(x: Tensor) -> Tensor:
    """The same, in the small space: every iteration multiplies x by a polynomial of its Gram matrix, and the
    next Gram matrix follows from that. Products of bfloat16 would lose too much on the way."""
    first, third, fifth = _COEFFICIENTS
    gram = x @ x.mT
    product: Tensor | None = None
    for left in reversed(range(_ITERATIONS)):
        factor = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
        factor.diagonal(dim1=-2, dim2=-1).add_(first)
        product = factor if product is None else factor @ product
        if left:
            gram = factor @ gram @ factor
    assert product is not None
    return product @ x
