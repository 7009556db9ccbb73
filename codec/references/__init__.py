"""Codecs from outside and controls, as rows to compare quantizers with. None of them is trained here."""

from codec.references.contract import (
    Decoded,
    Rates,
    Reference,
    ReferenceCodecError,
    ReferenceUnavailable,
)
from codec.references.registry import available, create, get, parse

__all__ = [
    "Decoded",
    "Rates",
    "Reference",
    "ReferenceCodecError",
    "ReferenceUnavailable",
    "available",
    "create",
    "get",
    "parse",
]
