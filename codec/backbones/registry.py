"""Backbones by name: everything of a codec but its quantizer. A new one is a module beside this, a subclass
of `contract.Backbone`, and its name here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from codec.backbones.contract import Backbone, BackboneError
from codec.backbones.mdct import MDCTBackbone
from codec.backbones.soundstream import SoundStreamBackbone
from codec.backbones.wavtokenizer import WavTokenizerBackbone
from quantizers.suggestions import did_you_mean

_backbones: dict[str, Backbone] = {
    "mdct-tiny": MDCTBackbone(),
    "mdct-small": MDCTBackbone(width=320, blocks=6, dim=64),
    "soundstream": SoundStreamBackbone(),
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
    """The configuration of the backbone `name`, with some of its fields changed.

    Raises BackboneError for an unknown name, an unknown field, or an impossible value.
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
    return did_you_mean(given, known) + f"known: {', '.join(known)}"
