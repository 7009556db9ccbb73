"""Backbones by name: everything of a codec but its quantizer."""

import dataclasses
import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from codec.decoders import MDCTDecoder
from codec.encoders import MDCTEncoder
from codec.seanet import SEANetEncoder
from codec.vocos import GROUPS, VocosDecoder


class BackboneError(ValueError):
    """A backbone was asked for something that it cannot be; the message says what to change."""


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


@dataclass(frozen=True, kw_only=True)
class MDCTBackbone(Backbone):
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
        _check_counts(self)

    def build(self) -> tuple[nn.Module, nn.Module]:
        """A new encoder and decoder, their weights drawn from torch's global generator."""
        sizes = {name: getattr(self, name) for name in ("hop", "width", "blocks", "expansion", "dim")}
        return MDCTEncoder(**sizes), MDCTDecoder(**sizes)


@dataclass(frozen=True, kw_only=True)
class WavTokenizerBackbone(Backbone):
    """The SEANet encoder and Vocos decoder of WavTokenizer (arXiv 2408.16532) and Q2D2 (arXiv 2512.01537).

    strides: of the encoder's stages, coarsest first; their product is the hop.
    encoder_width: channels before the first stage, doubled by each. lstm_layers: of the encoder.
    width, hidden, blocks: of the decoder's ConvNeXt layers.
    conditions: 4 as released, 0 (plain layer normalisation) computes the same once trained.
    """

    sample_rate: int = 24_000
    strides: tuple[int, ...] = (8, 5, 4, 2)
    encoder_width: int = 32
    lstm_layers: int = 2
    dim: int = 512
    width: int = 768
    hidden: int = 2304
    blocks: int = 12
    conditions: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.strides, list):  # as study files give it
            object.__setattr__(self, "strides", tuple(self.strides))
        strides = self.strides if isinstance(self.strides, tuple) else ()
        if not strides or any(type(stride) is not int or stride < 1 for stride in strides):
            raise BackboneError(f"strides must be a list of positive integers, not {self.strides!r}")
        _check_counts(self, but=("conditions",))
        if self.hop % 2:
            raise BackboneError(f"the product of the strides must be even, not {self.hop}")
        if self.encoder_width % 2:
            raise BackboneError(f"encoder_width must be even, not {self.encoder_width}")
        if self.width % GROUPS:
            raise BackboneError(f"width must be a multiple of {GROUPS}, not {self.width}")
        if type(self.conditions) is not int or self.conditions < 0:
            raise BackboneError(f"conditions must be an integer of at least 0, not {self.conditions!r}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise BackboneError(f"dropout must be at least 0 and below 1, not {self.dropout!r}")

    @property
    def hop(self) -> int:
        return math.prod(self.strides)

    def build(self) -> tuple[nn.Module, nn.Module]:
        encoder = SEANetEncoder(
            strides=self.strides, width=self.encoder_width, lstm_layers=self.lstm_layers, dim=self.dim
        )
        decoder = VocosDecoder(
            hop=self.hop,
            **{name: getattr(self, name) for name in ("dim", "width", "hidden", "blocks")},
            conditions=self.conditions,
            dropout=self.dropout,
        )
        return encoder, decoder


def _check_counts(backbone: Backbone, but: tuple[str, ...] = ()) -> None:
    """Raise BackboneError unless every field declared as an integer is a positive one."""
    for field in dataclasses.fields(backbone):
        value = getattr(backbone, field.name)
        if field.type is int and field.name not in but and (type(value) is not int or value < 1):
            raise BackboneError(f"{field.name} must be a positive integer, not {value!r}")


_backbones: dict[str, Backbone] = {
    "mdct-tiny": MDCTBackbone(),
    "mdct-small": MDCTBackbone(width=320, blocks=6, dim=64),
    "wavtokenizer-small": WavTokenizerBackbone(encoder_width=16, dim=128, width=192, hidden=576, blocks=4),
    "wavtokenizer-40": WavTokenizerBackbone(strides=(6, 5, 5, 4)),
    "wavtokenizer-53": WavTokenizerBackbone(strides=(6, 5, 5, 3)),
    "wavtokenizer-75": WavTokenizerBackbone(),
    "wavtokenizer-167": WavTokenizerBackbone(strides=(6, 4, 3, 2)),
    "wavtokenizer-333": WavTokenizerBackbone(strides=(6, 4, 3, 1)),
}


def available() -> tuple[str, ...]:
    """Names of all backbones."""
    return tuple(_backbones)


def get(name: str, overrides: Mapping[str, Any] | None = None) -> Backbone:
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
