"""Loader of logged models for `mlflow.pyfunc.load_model`: audio in, decoded audio out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec.model import Codec
from experiments.common.run_folder import WEIGHTS
from experiments.tracking.models import trained_codecs

if TYPE_CHECKING:
    import numpy as np


class ReconstructingModel:
    """A trained codec behind MLflow's `predict`."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def predict(
        self, audio: np.ndarray | dict[str, np.ndarray], params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Decoded audio [clips, samples] of audio [clips, samples], float32 on [-1, 1], at the codec's rate.

        audio: MLflow hands on what has a name in the signature by its name. params: none is used.
        """
        import torch

        samples = audio["audio"] if isinstance(audio, dict) else audio
        decoded: np.ndarray = self.codec.reconstruct(torch.tensor(samples, dtype=torch.float32)).numpy()
        return decoded

    def get_raw_model(self) -> Codec:
        """The codec, which `PyFuncModel.get_raw_model` hands on, to encode and decode."""
        return self.codec


def _load_pyfunc(folder: str) -> ReconstructingModel:
    """The model in a folder of files; MLflow calls this by its name. Raises RunError, DamagedFile."""
    from mlflow.models import Model

    flavors = Model.load(str(Path(folder) / "MLmodel")).flavors
    config = json.loads(flavors["codecbench"]["config"])
    stages = config.get("evaluate", {}).get("stages")
    return ReconstructingModel(
        trained_codecs.first_stages(trained_codecs.load_trained(Path(folder) / WEIGHTS), str(stages)).codec
    )
