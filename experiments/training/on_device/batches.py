"""Batches on their way to the device: prepared by a thread, and copied while the device works."""

from typing import Any

import torch
from torch import Tensor

from experiments.data.background import BackgroundBatches, Crops
from experiments.data.signal import Float32


class DeviceBatches:
    """This process's share of every batch, on `device`: [crops, samples], the next ones prepared early.

    A GPU copies a batch from pinned memory while it works and the host goes on.
    """

    def __init__(self, crops: Crops, device: torch.device) -> None:
        self._device = device
        self._host: BackgroundBatches[Tensor] = BackgroundBatches(crops, self._on_host)

    def batch(self, step: int) -> Tensor:
        """The batch of `step`. Raises what its preparation has raised."""
        return self._host.batch(step).to(self._device, non_blocking=self._device.type == "cuda")

    def describe(self, step: int) -> str:
        """The clips of the batch of `step`, one of the last few."""
        return self._host.describe(step)

    def cursor(self) -> dict[str, Any]:
        """The position after the last batch that was taken."""
        return self._host.cursor()

    def seek(self, cursor: dict[str, Any]) -> None:
        """Go on where `cursor` was taken."""
        self._host.seek(cursor)

    def close(self) -> None:
        """End all threads that prepare batches."""
        self._host.close()

    def _on_host(self, batch: Float32) -> Tensor:
        audio = torch.from_numpy(batch)
        if self._device.type != "cuda":
            return audio
        torch.cuda.set_device(self._device)  # this thread would begin at the first GPU, and take memory there
        return audio.pin_memory()
