"""The folder of a training: names of its files, and when it holds a trained codec."""

import tempfile
from pathlib import Path

WEIGHTS = "codec.safetensors"
SUMMARY = "trained.json"  # written last
STATE = "state.safetensors"
HISTORY = "metrics.jsonl"
SNAPSHOTS = "snapshots.npz"


def is_trained(folder: Path) -> bool:
    """Whether `folder` holds the weights of a training that is over."""
    return (folder / WEIGHTS).exists() and (folder / SUMMARY).exists()


class FolderError(ValueError):
    """The folder of all runs cannot be used; the message says why and what to do."""


def check_folder(directory: Path) -> None:
    """Make the folder of all runs, and see that it can be written to. Raises FolderError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise FolderError(
            f"nothing can be written to the folder of the runs, {directory}: {error.strerror or error}. "
            "Remedy: give another one with --runs, or mend this one."
        ) from error
