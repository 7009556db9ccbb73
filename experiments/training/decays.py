"""Budgets of a training at constant rate: the weights that a decay off it has reached at each of them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codec.model import Codec
from experiments.common import tensor_files
from experiments.common.run_folder import decayed_weights
from experiments.common.tensor_files import DamagedFile
from experiments.studies.sections import Train
from experiments.training import distributed
from experiments.training.state import TrainingState, check_fit, random_state, set_random_state

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class DecayedWeights:
    """The weights at the budgets of a training before its last, files in its `folder`."""

    folder: Path

    def write(self, budget: int, codec: Codec, seconds: float) -> None:
        """Keep `codec`, which took `seconds` to train. Raises OSError when the disk does not take it."""
        path = self.folder / decayed_weights(budget)
        tensor_files.write(path, codec.state_dict(), {"seconds": repr(seconds)})

    def load(self, budget: int, codec: Codec) -> float:
        """Load the weights into `codec`; the seconds that they took to train.

        Raises DamagedFile, and OSError where there are none.
        """
        tensors, metadata = tensor_files.read(self.folder / decayed_weights(budget))
        check_fit(codec, tensors)
        try:
            seconds = float(metadata["seconds"])
        except (KeyError, ValueError):
            raise DamagedFile(f"{decayed_weights(budget)} does not say how long it took") from None
        codec.load_state_dict(tensors)
        return seconds

    def missing(self, config: Train, step: int, fabric: "Fabric") -> list[int]:
        """Budgets whose decay leaves the training after `step` steps and that have no weights yet. Every
        process calls this."""
        due = [budget for budget in config.decay_at[:-1] if config.decay_start(budget) == step]
        if not due:
            return []
        found = [budget for budget in due if not (self.folder / decayed_weights(budget)).exists()]
        missing: list[int] = distributed.from_first(fabric, found)
        return missing


class BranchPoint:
    """A training at a step that it is to come back to: that at which a decay leaves it, for one.

    on_host: keep the copies there, where the device has no memory for them.
    """

    def __init__(self, state: TrainingState, device: torch.device, *, on_host: bool = False) -> None:
        self._state, self._device = state, device
        place = torch.device("cpu") if on_host else None
        self._tensors: Mapping[str, Tensor] = {
            name: value.detach().to(place or value.device, copy=True)
            for name, value in state.tensors().items()
        }
        self._metadata = state.metadata()
        self._random = random_state(device)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the training was left."""
        return time.monotonic() - self._started

    def come_back(self) -> None:
        """Bring weights, optimizers, counters and random generators back, bit for bit."""
        self._state.load(self._tensors, self._metadata)
        set_random_state(self._random, self._device)
