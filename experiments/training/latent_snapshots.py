"""Latents of fixed crops at a few steps of a training, for figures of how they move."""

import logging
import zipfile
import zlib
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

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError)  # as numpy tells of it

_log = logging.getLogger("codecbench.train")


class LatentSnapshots(Observer):
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
        """Take up what was kept until `step`."""
        if step and self._path.exists():
            try:
                self._taken = {at: taken for at, taken in self._read().items() if at <= step}
            except _DAMAGE as error:
                _log.warning("%s is damaged (%s); the figures lack the steps to %d", self._path, error, step)
        self._take(step)

    def progress(self, step: int, steps: int, text: str) -> None:
        """Take a snapshot if `step` is one of those wanted."""
        self._take(step)

    def saving(self, step: int) -> None:
        """Put the snapshots on disk."""
        if not self._taken:
            return
        steps = sorted(self._taken)
        joined = np.stack([self._taken[step] for step in steps])
        pairs = {f"pair_{i}": joined[..., 2 * i : 2 * i + 2] for i in range(joined.shape[-1] // 2)}
        with replacing(self._path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, steps=np.array(steps), **pairs)  # type: ignore[arg-type]

    def _read(self) -> dict[int, np.ndarray]:
        """Read the snapshots in the file, by step. Raises one of `_DAMAGE`."""
        with self._path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            pairs = [archive[f"pair_{i}"] for i in range(len(archive.files) - 1)]
            joined = np.concatenate(pairs, axis=-1)
            return dict(zip(map(int, archive["steps"].tolist()), joined, strict=True))

    def _take(self, step: int) -> None:
        if step in self._steps and step not in self._taken:
            coordinates = self._coordinates()
            if coordinates is None:
                self._steps = set()
            else:
                self._taken[step] = coordinates

    @torch.no_grad()
    def _coordinates(self) -> np.ndarray | None:
        """Coordinates [points, channels] of evenly spaced frames, None where the quantizer has no plane."""
        training, device = self._codec.training, next(self._codec.parameters()).device
        self._codec.eval()
        quantized = self._codec.quantizer(self._codec.features(self._audio.to(device)))
        self._codec.train(training)
        if "coordinates" not in quantized.diagnostics:
            return None
        frames = quantized.diagnostics["coordinates"].flatten(0, 1)
        frames = frames[:, : frames.shape[1] // 2 * 2]
        if not frames.shape[1]:
            return None
        places = torch.linspace(0, len(frames) - 1, min(len(frames), POINTS)).long().to(frames.device)
        return np.asarray(frames[places].cpu().numpy())


def latent_snapshots(codec: Codec, run: Run, validation: Split, directory: Path) -> list[LatentSnapshots]:
    """The observer that takes the snapshots that `run` asks for, and keeps them in `directory`.

    None where it asks for none, or where the code is not fixed: such a quantizer has no coordinates, and is
    not run on validation audio just to learn that.
    """
    steps = spaced(run.evaluate.snapshots, run.train.steps)
    if not steps or not codec.quantizer.streams or codec.quantizer.learned:
        return []
    samples = round(run.train.crop_seconds * codec.sample_rate / codec.hop) * codec.hop
    return [LatentSnapshots(codec, batch(validation, samples), steps, directory / SNAPSHOTS)]


def spaced(number: int, steps: int) -> set[int]:
    """`number` steps from 0 to `steps`, the gaps between them growing evenly; fewer where they coincide."""
    if number < 2:
        return {steps} if number else set()
    return {round(steps * (place / (number - 1)) ** 2) for place in range(number)}
