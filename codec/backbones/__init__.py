"""Encoders and decoders by name: everything of a codec but its quantizer.

`get("mdct-tiny")` is a configuration, its `build()` makes a new encoder and decoder. One family a module;
`registry` names the configurations.
"""

from codec.backbones.contract import Backbone, BackboneError
from codec.backbones.mdct import MDCTBackbone
from codec.backbones.registry import available, get
from codec.backbones.soundstream import SoundStreamBackbone
from codec.backbones.wavtokenizer import WavTokenizerBackbone

__all__ = ["Backbone", "BackboneError", "MDCTBackbone", "WavTokenizerBackbone", "available", "get"]
