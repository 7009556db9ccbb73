"""Options of a quantizer that wait for features, as `channels: fit` does: decided once, before training."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import quantizers
from experiments.common import run_folder, tensor_files
from experiments.common.atomic_files import write_text
from experiments.common.tensor_files import DamagedFile
from experiments.data.dataset import Split
from experiments.data.streaming import TarSplit
from experiments.studies.runs import Run
from experiments.training import distributed
from experiments.training.starting_weights import features, load_backbone
from quantizers.contract import Quantizer

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fitted(run: Run, directory: Path, split: Split | TarSplit, fabric: "Fabric") -> Run:
    """`run` with the options that features of the training split decide, or as it is if none do.

    directory: of all runs. What was decided is kept in the folder of the training, so that a training that
    goes on has the same channels on any machine. Of several processes, the first one decides.

    Raises QuantizerError where no levels come near the rate, and what `load_backbone` raises.
    """
    if run.asked is None:
        return run
    options: dict[str, Any] | None = None
    if fabric.is_global_zero:
        folder = directory / run.training_hash
        options = _decided(folder)
        if options is None:
            options = _decide(run, directory, split, fabric)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / run_folder.OPTIONS, json.dumps(options))
    return run.fitted(quantizers.validate(run.quantizer, distributed.from_first(fabric, options)))


def _decided(folder: Path) -> dict[str, Any] | None:
    """What was decided before: in a file of its own, and in the trained weights."""
    try:
        options = json.loads((folder / run_folder.OPTIONS).read_bytes())
    except (OSError, ValueError):
        options = None
    if isinstance(options, dict):
        return options
    try:
        _, metadata = tensor_files.read(folder / run_folder.WEIGHTS)
        return dict(json.loads(metadata["config"])["quantizer"]["options"])
    except (OSError, DamagedFile, KeyError, TypeError, ValueError):
        return None


def _decide(run: Run, directory: Path, split: Split | TarSplit, fabric: "Fabric") -> dict[str, Any]:
    """Levels for the features that the encoder makes before the first step."""
    codec = run.codec()
    load_backbone(codec, run, directory)
    codec.to(fabric.device)
    assert isinstance(codec.quantizer, Quantizer)
    assert run.asked is not None
    options = {name: value for name, value in run.asked.items() if name != "bits"}
    return quantizers.fit_options(
        run.quantizer,
        dim=codec.quantizer.dim,
        bits=run.asked["bits"],
        options=options,
        features=features(codec, split, run).cpu(),
    )
