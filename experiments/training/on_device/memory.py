"""`train.accumulate: auto`: a step for which the device has too little memory is made in more parts."""

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from experiments.studies.sections import Train
from experiments.training.decays import BranchPoint
from experiments.training.observer import Observer, log_metrics, warn
from experiments.training.state import TrainingState, new_scaler

Made = TypeVar("Made")

NUMBER_OF_PARTS = "train/accumulate"  # the metric


class FittingParts:
    """Finds the parts of a step that fit, at the steps from which a training needs more memory than before.

    These are the first two of a sitting, the second of which meets the optimizers' moments, and those at
    which discriminators or frozen parts join. Before each, the state is copied to the host, and a step that
    ends for want of memory is made again from it, in twice as many parts or the next number that divides the
    crops. Does nothing where `train.accumulate` is a number.
    """

    def __init__(
        self, state: TrainingState, config: Train, device: torch.device, observers: Sequence[Observer]
    ) -> None:
        self._state, self._config, self._device, self._observers = state, config, device, observers
        joins = [state.step, config.objective.objective().discriminator_start, config.freeze_steps]
        first = {step for step in joins if step is not None}
        self._steps = first | {step + 1 for step in first} if config.accumulate == "auto" else set()
        self._told = 0

    def make(self, step: Callable[[], Made]) -> Made:
        """Make `step`, in as many parts as it takes. Raises torch.OutOfMemoryError where a part is one
        crop."""
        if self._state.step not in self._steps:
            return step()
        before = BranchPoint(self._state, self._device, on_host=True)
        while True:
            try:
                made = step()
            except RuntimeError as error:
                more = next_parts(self._state.found_parts, self._config.batch_size)
                if not is_out_of_memory(error) or more is None:
                    raise
            else:
                self._tell(self._state.step, self._state.found_parts)
                return made
            # Outside the handler, whose error holds all tensors of the step that did not fit.
            self._come_back(before)
            self._warn(self._state.step, more)
            self._state.found_parts = more

    def described(self) -> str:
        """The parts of a step, for a line of progress; empty where it is whole or a number was asked for."""
        parts = self._state.found_parts
        return f"in {parts} parts, " if self._config.accumulate == "auto" and parts > 1 else ""

    def _come_back(self, before: BranchPoint) -> None:
        for optimizer in self._state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if self._state.scaler is not None:  # the old one knows gradients that are unscaled, and are gone
            self._state.scaler = new_scaler(self._device)
        before.come_back()

    def _warn(self, step: int, parts: int) -> None:
        crops = self._config.batch_size // parts
        text = (
            f"out of memory at step {step}; from here on a step is made in {parts} parts of {crops} "
            f"crop{'s' if crops > 1 else ''} (train.accumulate: auto)"
        )
        warn(self._observers, step, "accumulate", text)

    def _tell(self, step: int, parts: int) -> None:
        if parts != self._told:
            log_metrics(self._observers, step, {NUMBER_OF_PARTS: float(parts)})
            self._told = parts


def next_parts(parts: int, crops: int) -> int | None:
    """The least number of equal parts of `crops` that is at least twice `parts`; None where each is one."""
    return next((more for more in range(2 * parts, crops + 1) if crops % more == 0), None)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an error for want of memory: torch's own, and the status by which cuBLAS and cuDNN tell it."""
    return isinstance(error, torch.OutOfMemoryError) or "STATUS_ALLOC_FAILED" in str(error)
