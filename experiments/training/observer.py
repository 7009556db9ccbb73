"""Observers of a training, and how it can end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    pass


class Diverged(RuntimeError):
    """The loss or its gradient was not finite too many times in a row."""


class Interrupted(RuntimeError):
    """The training was asked to stop; its state is saved."""


class Observer(Protocol):
    """What a training tells while it runs."""

    def restored(self, step: int) -> None:
        """The training begins after `step` finished ones."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """New values."""

    def warning(self, step: int, name: str, text: str) -> None:
        """Something that a person should look at; `name` is the kind, in one word."""

    def saving(self, step: int) -> None:
        """The state of `step` is about to be saved: a training that is killed later goes on from there."""

    def progress(self, step: int, steps: int, text: str) -> None:
        """A step is done."""

    def should_stop(self) -> bool:
        """Whether to save the state and raise `Interrupted`."""
        return False


class Silent(Observer):
    """Tells nothing: the observer of all processes but the first."""

    def restored(self, step: int) -> None:
        pass

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def warning(self, step: int, name: str, text: str) -> None:
        pass

    def saving(self, step: int) -> None:
        pass

    def progress(self, step: int, steps: int, text: str) -> None:
        pass


@dataclass(frozen=True)
class Trained:
    """steps done; seconds spent over all sittings; seconds of audio seen; batches skipped; what the network's
    blocks computed in, first to last where sittings differed, and empty where it was not recorded."""

    steps: int
    seconds: float
    audio_seconds: float
    skipped: int
    precision: str = ""
