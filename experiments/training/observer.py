"""Observers of a training, and how it can end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class Diverged(RuntimeError):
    """The loss, its gradient or the weights are not finite, and training cannot mend that."""


class Interrupted(RuntimeError):
    """The training was asked to stop; its state is saved."""


class Observer:
    """An observer of a training: override what is of interest, the rest does nothing.

    Steps are counted from 1, the first finished one. Of several processes each has observers of its own.
    """

    def restored(self, step: int) -> None:
        """The training begins after `step` finished steps."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """New values of metrics, by name."""

    def warning(self, step: int, name: str, text: str) -> None:
        """Something that a person should look at; `name` is its kind, in one word."""

    def saving(self, step: int) -> None:
        """The state of `step` is about to be saved: a training that is killed later goes on from there."""

    def progress(self, step: int, steps: int, text: str) -> None:
        """Step `step` of `steps` is done; `text` has its losses and the speed."""

    def should_stop(self) -> bool:
        """Ask the training to save its state and raise `Interrupted`."""
        return False


def log_metrics(observers: Sequence[Observer], step: int, values: Mapping[str, float]) -> None:
    """Tell all of `observers` new values of metrics."""
    for observer in observers:
        observer.metrics(step, values)


def warn(observers: Sequence[Observer], step: int, name: str, text: str) -> None:
    """Give all of `observers` a warning."""
    for observer in observers:
        observer.warning(step, name, text)


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    steps done; seconds spent over all sittings; seconds of audio seen; batches skipped; precision of the
    network's blocks, first to last where sittings differed; name of the device of the last sitting; digest of
    the encoder and decoder before the first step. The last three are empty where they were not recorded.
    """

    steps: int
    seconds: float
    audio_seconds: float
    skipped: int
    precision: str = ""
    device: str = ""
    starting_weights: str = ""
