"""Descriptions of the options of quantizers, read from the docstrings of their configurations."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping

from quantizers.registry import entry

# Options that no configuration holds: they only steer a choice by bits.
STEERING: Mapping[str, str] = {
    "channels": "number of channels when `bits` decides the levels: a number, `paper` (about 3.2 bits per "
    "channel), or `fit` (chosen by the features)",
    "allocation": "levels when `bits` decides them: `even` gives all channels about the same number of bits, "
    "`water-filling` more bits to channels of larger variance",
    "blocks": "number of blocks of the lattice when `bits` decides their size",
}
_ITEM = re.compile(r"([a-z_0-9]+): (.*)")


def option_descriptions(name: str) -> dict[str, str]:
    """The description of each option of the quantizer `name`, in the order of its options.

    An option without a description, as those of other packages may be, is left out. Raises QuantizerError for
    an unknown name.

    Examples:
        >>> option_descriptions("fsq")["levels"]
        'number of levels of each channel'
    """
    registered = entry(name)
    texts: dict[str, str] = {}
    for cls in reversed(registered.cls.config_class.__mro__):
        if dataclasses.is_dataclass(cls):
            texts |= _items(cls.__doc__ or "", {field.name for field in dataclasses.fields(cls)})
    fields = {field.name for field in dataclasses.fields(registered.cls.config_class)}
    texts |= {key: text for key, text in STEERING.items() if key not in fields}
    return {option: texts[option] for option in registered.options if option in texts}


def _items(docstring: str, options: set[str]) -> dict[str, str]:
    """Texts of the lines `option: meaning` and of the indented lines that continue them."""
    texts: dict[str, str] = {}
    option = ""
    for line in inspect.cleandoc(docstring).splitlines():
        item = _ITEM.fullmatch(line)
        if item is not None and item[1] in options:
            option = item[1]
            texts[option] = item[2]
        elif option and line.startswith(" "):
            texts[option] += f" {line.strip()}"
        else:
            option = ""
    return {option: text.removesuffix(".") for option, text in texts.items()}
