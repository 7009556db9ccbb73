"""Reference codecs by name."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from codec.references.codec2 import Codec2
from codec.references.contract import Reference, ReferenceCodecError
from codec.references.controls import PCM, GroundTruth, Resample
from codec.references.lyra import Lyra
from codec.references.opus import Opus
from codec.references.pretrained import DAC, EnCodec, Mimi, XCodec
from codec.references.released import Q2D2, WavTokenizer
from codec.references.semantic import NeuCodec, XCodec2
from quantizers.suggestions import did_you_mean

_CLASSES: dict[str, type[Reference]] = {
    "ground-truth": GroundTruth,
    "resample": Resample,
    "pcm": PCM,
    "opus": Opus,
    "codec2": Codec2,
    "lyra": Lyra,
    "encodec": EnCodec,
    "dac": DAC,
    "mimi": Mimi,
    "xcodec": XCodec,
    "xcodec2": XCodec2,
    "neucodec": NeuCodec,
    "wavtokenizer": WavTokenizer,
    "q2d2": Q2D2,
}


def available() -> tuple[str, ...]:
    """Names of the reference codecs."""
    return tuple(_CLASSES)


def get(name: str) -> type[Reference]:
    """The class of a name. Raises ReferenceCodecError."""
    if name not in _CLASSES:
        raise ReferenceCodecError(
            f"unknown reference codec {name!r}; {did_you_mean(name, _CLASSES)}known: {', '.join(_CLASSES)}"
        )
    return _CLASSES[name]


def create(name: str, options: Mapping[str, Any] | None = None) -> Reference:
    """The reference codec `name` with `options`; loads nothing yet. Raises ReferenceCodecError."""
    cls, options = get(name), dict(options or {})
    known = [field.name for field in dataclasses.fields(cls)]
    for key in options:
        if key not in known:
            accepted = f"options of {name}: {', '.join(known)}" if known else f"{name} has no options"
            raise ReferenceCodecError(f"{name}: unknown option {key!r}; {did_you_mean(key, known)}{accepted}")
    try:
        return cls(**options)
    except TypeError as error:
        raise ReferenceCodecError(f"{name}: {error}") from None


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of `NAME`, `NAME:VALUE` (its main option) or `NAME:KEY=VALUE,KEY=VALUE`.

    Raises ReferenceCodecError.
    """
    import yaml

    name, colon, rest = text.partition(":")
    main = get(name).main_option
    if not colon:
        return name, {}
    options = {}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = main, part
        if not key or not value:
            raise ReferenceCodecError(f"{text}: write it as {name}:KEY=VALUE")
        options[key.strip()] = yaml.safe_load(value)
    return name, options
