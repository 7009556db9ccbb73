"""The folder of a training: names of its files, and when it holds a trained codec."""

from pathlib import Path

WEIGHTS = "codec.safetensors"
SUMMARY = "trained.json"  # written last
STATE = "state.safetensors"
HISTORY = "metrics.jsonl"
SNAPSHOTS = "snapshots.npz"


def is_trained(folder: Path) -> bool:
    """Whether `folder` holds the weights of a training that is over."""
    return (folder / WEIGHTS).exists() and (folder / SUMMARY).exists()
