"""Reference codecs by name."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

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
    hints = get_type_hints(cls)
    for key, value in options.items():
        _check_kind(name, key, value, hints[key])
    try:
        return cls(**options)
    except TypeError as error:
        raise ReferenceCodecError(f"{name}: {error}") from None


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of `NAME`, `NAME:VALUE` (its main option) or `NAME:KEY=VALUE,KEY=VALUE`. A list is
    written with colons: `levels=9:9:7:7:7:7`.

    Raises ReferenceCodecError.
    """
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
        options[key.strip()] = _value(value.strip())
    return name, options


def _value(text: str) -> Any:
    """The number that `text` writes, or the list of integers between colons, or true, false, null, or
    itself."""
    if re.fullmatch(r"[0-9]{1,9}(:[0-9]{1,9})+", text):
        return [int(each) for each in text.split(":")]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False, "null": None}.get(text, text)


def _check_kind(name: str, key: str, value: Any, hint: Any) -> None:
    """Raise ReferenceCodecError unless `value` is one of the types that the option `key` takes."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in kinds:
        plain = get_origin(kind) or kind
        if kind is float and type(value) in (int, float) and math.isfinite(value):
            return
        if plain is Sequence and isinstance(value, list) and all(type(each) is int for each in value):
            return
        if kind is not float and plain is not Sequence and type(value) is plain:
            return
    words = {float: "a number", int: "an integer", str: "a text", NoneType: "null"}
    wanted = " or ".join(words.get(get_origin(kind) or kind, "a list of integers") for kind in kinds)
    raise ReferenceCodecError(f"{name}: {key} must be {wanted}, not {value!r}")
