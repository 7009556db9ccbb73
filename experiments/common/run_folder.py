"""The folder of a training: names of its files, and when it holds a trained codec."""

import json
import tempfile
from pathlib import Path
from typing import Any

from experiments.common import tensor_files
from experiments.common.tensor_files import DamagedFile

WEIGHTS = "codec.safetensors"
SUMMARY = "trained.json"  # written last
STATE = "state.safetensors"
OPTIONS = "options.json"  # of the quantizer, where features have decided them
HISTORY = "metrics.jsonl"
SNAPSHOTS = "snapshots.npz"
DECAYED = "decayed-*.safetensors"  # weights at budgets before the last

REFERENCES = "references"  # beside the folders of trainings: what metrics compute from references alone


class FolderError(ValueError):
    """The folder of all runs cannot be used; the message says why and what to do."""


def decayed_weights(budget: int) -> str:
    """Name of the file of the weights at a budget before the last, see `train.decay_at`."""
    return f"decayed-{budget}.safetensors"


def is_trained(folder: Path) -> bool:
    """Look for the files of a training that is over."""
    return (folder / WEIGHTS).exists() and (folder / SUMMARY).exists()


def is_intact(folder: Path) -> bool:
    """Check that `folder` has the files of a training that is over, as they were written.

    Reads the weights. Raises OSError where they cannot be read at all.
    """
    try:
        summary(folder)
        tensor_files.read(folder / WEIGHTS)
    except (DamagedFile, FileNotFoundError):
        return False
    return True


def summary(folder: Path) -> dict[str, Any]:
    """The summary of a training that is over. Raises DamagedFile, and OSError where it cannot be read."""
    path = folder / SUMMARY
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise DamagedFile(f"{path} is damaged: it holds no summary")
    return values


def discard_trained(folder: Path) -> None:
    """Remove weights and summary, so that the training is done again."""
    for name in (SUMMARY, WEIGHTS):
        (folder / name).unlink(missing_ok=True)


def check_folder(directory: Path) -> None:
    """Make the folder of all runs, and see that it can be written to. Raises FolderError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise FolderError(
            f"the folder of runs, {directory}, cannot be written: {error.strerror or error}. Remedy: give "
            "another folder with --runs, or correct this one."
        ) from error
