"""Latents of fixed crops at a few steps of a training, for figures of how they move."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codec.model import Codec
from experiments.common.atomic_files import replacing
from experiments.common.run_folder import SNAPSHOTS
from experiments.data.dataset import Split
from experiments.studies.runs import Run
from experiments.training.observer import Observer
from experiments.training.validation import batch

POINTS = 2000  # of each pair of channels


class Snapshots:
    """Keeps the coordinates of `audio` [crops, samples] at `steps`, where the quantizer has any.

    The file has `steps` [n] and `pair_0` and so on, [n, points, 2] in grid units. It is written before each
    training state, so that a training that goes on from its state goes on with its snapshots. Taking one
    changes neither the codec nor a random generator. Of a training that averages its weights, they show the
    weights that are trained, not the average.
    """

    def __init__(self, codec: Codec, audio: Tensor, steps: set[int], path: Path) -> None:
        self._codec, self._audio, self._steps, self._path = codec, audio, steps, path
        self._taken: dict[int, np.ndarray] = {}  # step to [points, channels]

    def restored(self, step: int) -> None:
        """Begin after `step`: take up what was kept until then."""
        if step and self._path.exists():
            with np.load(self._path) as archive:
                pairs = [archive[f"pair_{i}"] for i in range(len(archive.files) - 1)]
                joined = np.concatenate(pairs, axis=-1)
                self._taken = {
                    int(s): joined[i] for i, s in enumerate(archive["steps"].tolist()) if s <= step
                }
        self.at(step)

    def at(self, step: int) -> None:
        """Take a snapshot if `step` is one of those wanted."""
        if step in self._steps and step not in self._taken:
            found = self._coordinates()
            if found is None:
                self._steps = set()
            else:
                self._taken[step] = found

    def write(self) -> None:
        """Put the snapshots on disk."""
        if not self._taken:
            return
        steps = sorted(self._taken)
        joined = np.stack([self._taken[step] for step in steps])
        pairs = {f"pair_{i}": joined[..., 2 * i : 2 * i + 2] for i in range(joined.shape[-1] // 2)}
        with replacing(self._path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, steps=np.array(steps), **pairs)  # type: ignore[arg-type]

    @torch.no_grad()
    def _coordinates(self) -> np.ndarray | None:
        training, device = self._codec.training, next(self._codec.parameters()).device
        self._codec.eval()
        quantized = self._codec.quantizer(self._codec.features(self._audio.to(device)))
        self._codec.train(training)
        if "coordinates" not in quantized.diagnostics:
            return None
        every = quantized.diagnostics["coordinates"].flatten(0, 1)
        every = every[:, : every.shape[1] // 2 * 2]
        if not every.shape[1]:
            return None
        kept = torch.linspace(0, len(every) - 1, min(len(every), POINTS)).long().to(every.device)
        return np.asarray(every[kept].cpu().numpy())


class _Watched(Observer):
    """Passes on what a training tells, and takes snapshots by it."""

    def __init__(self, observer: Observer, kept: Snapshots) -> None:
        self._observer, self._kept = observer, kept

    def restored(self, step: int) -> None:
        self._observer.restored(step)
        self._kept.restored(step)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._observer.metrics(step, values)

    def warning(self, step: int, name: str, text: str) -> None:
        self._observer.warning(step, name, text)

    def saving(self, step: int) -> None:
        self._observer.saving(step)
        self._kept.write()

    def progress(self, step: int, steps: int, text: str) -> None:
        self._kept.at(step)
        self._observer.progress(step, steps, text)

    def should_stop(self) -> bool:
        return self._observer.should_stop()


def watched(codec: Codec, run: Run, validation: Split, directory: Path, observer: Observer) -> Observer:
    """`observer`, with the snapshots that `run` asks for taken on the way and kept in `directory`."""
    wanted = spaced(run.evaluate.snapshots, run.train.steps)
    if not wanted or not codec.quantizer.streams:
        return observer
    samples = round(run.train.crop_seconds * codec.sample_rate / codec.hop) * codec.hop
    return _Watched(observer, Snapshots(codec, batch(validation, samples), wanted, directory / SNAPSHOTS))


def spaced(number: int, steps: int) -> set[int]:
    """`number` steps from 0 to `steps`, the gaps between them growing evenly; fewer where they coincide."""
    if number < 2:
        return {steps} if number else set()
    return {round(steps * (place / (number - 1)) ** 2) for place in range(number)}
