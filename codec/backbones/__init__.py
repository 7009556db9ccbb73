"""Encoders and decoders by name: everything of a codec but its quantizer.

`get("mdct-tiny")` is a configuration, its `build()` makes a new encoder and decoder. One family a module;
`registry` names the configurations. `load_released("soundstream")` is an encoder and decoder with the weights
that others trained.
"""

from codec.backbones.contract import Backbone, BackboneError
from codec.backbones.mdct import MDCTBackbone
from codec.backbones.registry import available, get
from codec.backbones.released import load_released
from codec.backbones.soundstream import SoundStreamBackbone
from codec.backbones.streaming import StreamMemory
from codec.backbones.wavtokenizer import WavTokenizerBackbone

__all__ = [
    "Backbone",
    "BackboneError",
    "MDCTBackbone",
    "SoundStreamBackbone",
    "StreamMemory",
    "WavTokenizerBackbone",
    "available",
    "get",
    "load_released",
]
