"""The contract of a backbone: sizes, a frame rate, and a new encoder and decoder."""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn


class BackboneError(ValueError):
    """A backbone cannot be built as requested; the message says what to change."""


class Reach(NamedTuple):
    """How far a network looks, in frames: its result for frame t depends on its input from frame t - `before`
    to frame t + `after` alone. So a long recording can be coded in pieces (`codec.pieces`)."""

    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Backbone(ABC):
    """Sizes of an encoder and a decoder.

    sample_rate: Hz. dim: channels of the features that the quantizer sees.
    """

    sample_rate: int
    dim: int

    @property
    @abstractmethod
    def hop(self) -> int:
        """Samples a frame."""

    @abstractmethod
    def build(self) -> tuple[nn.Module, nn.Module]:
        """A new encoder and decoder, their weights drawn from torch's global generator."""

    @property
    def frame_rate(self) -> float:
        """Frames a second, in Hz."""
        return self.sample_rate / self.hop


MOST = {"sample_rate": 192_000, "hop": 65_536, "blocks": 256, "lstm_layers": 16}  # of a field, by its name
MOST_CHANNELS = 8192  # of every other one


def check_counts(backbone: Backbone, but: tuple[str, ...] = ()) -> None:
    """Raise BackboneError unless every field declared as an integer is a positive one within `MOST`."""
    for field in dataclasses.fields(backbone):
        value = getattr(backbone, field.name)
        if field.type is int and field.name not in but and (type(value) is not int or value < 1):
            raise BackboneError(f"{field.name} must be a positive integer, not {value!r}")
        most = MOST.get(field.name, MOST_CHANNELS)
        if type(value) is int and value > most:
            raise BackboneError(f"{field.name} must be at most {most:,}, not {value:,}")
