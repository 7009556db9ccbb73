"""Outcomes of steps, which the host reads after the device has gone on: nothing waits for them.

A GPU works behind the host, which gives it the operations of the next step while it computes this one. To
read a value is to wait until all that was asked for is done. So the outcome of a step is copied as the device
comes to it, and read when the next step has been given: a warning of a batch that was skipped, a logged value
and the end of a training that diverges come one step later. Whether weights move is decided on the device, so
they are the same. A CPU's values are there at once, and are read at once.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from experiments.studies.sections import Train
from experiments.training import distributed
from experiments.training.observer import Diverged, Observer, log_metrics, warn
from experiments.training.on_device.batches import DeviceBatches
from experiments.training.state import TrainingState
from experiments.training.step import Update, overweight

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_FINITE, _SCALE = "update/finite", "update/next_scale"


class LateValues:
    """Scalars by name, on their way to the host since this was made."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._names = list(values)
        stacked = torch.stack([value.detach().float() for value in values.values()])
        self._copy = stacked.to("cpu", non_blocking=True)  # into pinned memory
        self._arrived: torch.cuda.Event | None = None
        if stacked.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> dict[str, float]:
        """The values, once they have arrived: this does not wait for what the device was given later."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return dict(zip(self._names, self._copy.tolist(), strict=True))


@dataclass(frozen=True)
class _Outcome:
    """step: finished ones before it. values: of this process. means: over processes, if they are logged.
    speed: logged beside them."""

    step: int
    values: LateValues
    means: LateValues | None
    speed: Mapping[str, float]


class Outcomes:
    """Reads the outcomes of steps in order: counts and names batches that were skipped, logs values.

    delay: steps between a step and the reading of its outcome; by default 1 on a GPU and 0 on a CPU.
    observers of all processes hear of metrics, those of the first process of the rest.
    """

    def __init__(
        self,
        state: TrainingState,
        config: Train,
        crops: DeviceBatches,
        fabric: "Fabric",
        observers: Sequence[Observer],
        delay: int | None = None,
    ) -> None:
        self._state, self._config, self._crops, self._fabric = state, config, crops, fabric
        self._observers = observers
        self._first = observers if fabric.is_global_zero else ()
        self._delay = int(fabric.device.type == "cuda") if delay is None else delay
        self._waiting: deque[_Outcome] = deque()
        self._losses: dict[str, float] = {}  # of the newest outcome that was read

    def add(self, update: Update, speed: Mapping[str, float] | None = None) -> None:
        """Take the outcome of the step that was just made, and read those whose time has come.

        speed: metrics of the step, if it is to be logged. Raises Diverged.
        """
        values = {**update.values, _FINITE: update.finite}
        if update.next_scale is not None:
            values[_SCALE] = update.next_scale
        means = None
        if speed is not None and self._fabric.world_size > 1:
            means = LateValues(distributed.mean(self._fabric, update.values))
        late = LateValues(values)
        means = late if speed is not None and means is None else means
        self._waiting.append(_Outcome(self._state.step - 1, late, means, speed or {}))
        while len(self._waiting) > self._delay:
            self._read(self._waiting.popleft())

    def settle(self) -> None:
        """Read all outcomes, which waits for the device: counters and what was told are then those of all
        steps made. Raises Diverged."""
        while self._waiting:
            self._read(self._waiting.popleft())

    def described(self) -> str:
        """Losses of the newest step that was read, for a line of progress; empty before the first."""
        shown = {name: value for name, value in self._losses.items() if "norm" not in name}
        return "".join(f"{name} {value:.3f}, " for name, value in shown.items())

    def _read(self, outcome: _Outcome) -> None:
        values = outcome.values.read()
        finite, scale = values.pop(_FINITE), values.pop(_SCALE, None)
        self._losses = values
        if finite:
            self._state.skipped_in_a_row = 0
        else:
            self._skip(outcome.step, values, scale)
        if outcome.step == 0 and (text := overweight(values, self._config)):
            warn(self._first, 1, "quantizer_loss", text)
        if outcome.means is not None:
            logged = values if outcome.means is outcome.values else outcome.means.read()
            named = {f"train/{name}": value for name, value in logged.items()}
            log_metrics(self._observers, outcome.step + 1, {**named, **outcome.speed})

    def _skip(self, step: int, values: Mapping[str, float], scale: float | None) -> None:
        """Count and name the batch of `step`, which moved nothing. Raises Diverged for too many in a row."""
        state = self._state
        state.skipped += 1
        state.skipped_in_a_row += 1
        shown = f"loss {values['loss']:g}, gradient norm {values['gradient_norm']:g}"
        log_metrics(self._first, step, {"train/skipped_batches": float(state.skipped)})
        text = f"{shown}; skipped the batch {self._crops.describe(step)}"
        warn(self._first, step, "skipped_batch", text)
        falling = scale is not None and scale > 1  # fp16 may still find its scale
        if state.skipped_in_a_row >= self._config.non_finite_limit and not falling:
            raise Diverged(
                f"loss or gradient not finite in {state.skipped_in_a_row} steps in a row up to step {step} "
                f"({shown})"
            )
