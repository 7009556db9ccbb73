"""Backbones by name: everything of a codec but its quantizer."""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from codec.decoders import MDCTDecoder
from codec.encoders import MDCTEncoder


class BackboneError(ValueError):
    """A backbone was asked for something that it cannot be; the message says what to change."""


@dataclass(frozen=True, kw_only=True)
class MDCTBackbone:
    """MDCT frames in and out with ConvNeXt blocks between.

    sample_rate: Hz. hop: samples a frame, so that frame_rate = sample_rate / hop.
    width, blocks, expansion: channels of each block, blocks a side, hidden channels over width.
    dim: channels of the features that the quantizer sees.
    """

    sample_rate: int = 16_000
    hop: int = 96
    width: int = 160
    blocks: int = 3
    expansion: int = 4
    dim: int = 32

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BackboneError(f"{field.name} must be a positive integer, not {value!r}")

    @property
    def frame_rate(self) -> float:
        """Frames a second, in Hz."""
        return self.sample_rate / self.hop

    def build(self) -> tuple[nn.Module, nn.Module]:
        """A new encoder and decoder, their weights drawn from torch's global generator."""
        sizes = {name: getattr(self, name) for name in ("hop", "width", "blocks", "expansion", "dim")}
        return MDCTEncoder(**sizes), MDCTDecoder(**sizes)


_backbones: dict[str, MDCTBackbone] = {
    "mdct-tiny": MDCTBackbone(),
    "mdct-small": MDCTBackbone(width=320, blocks=6, dim=64),
}


def available() -> tuple[str, ...]:
    """Names of all backbones."""
    return tuple(_backbones)


def get(name: str, overrides: Mapping[str, Any] | None = None) -> MDCTBackbone:
    """The configuration of backbone `name`, with some of its fields changed.

    Raises BackboneError for an unknown name, an unknown field, or a value that cannot be.
    """
    if name not in _backbones:
        raise BackboneError(f"unknown backbone {name!r}; {_hint(name, available())}")
    base = _backbones[name]
    fields = [field.name for field in dataclasses.fields(base)]
    for key in overrides or {}:
        if key not in fields:
            raise BackboneError(f"backbone {name} has no field {key!r}; {_hint(key, fields)}")
    return dataclasses.replace(base, **(overrides or {}))


def _hint(given: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(known)}"
