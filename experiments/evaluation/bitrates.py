"""Rates of a run, as it logs them: nominal ones from the live module, measured ones from payloads."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from codec.model import Codec

if TYPE_CHECKING:
    from codec.references.contract import Reference


def of_codec(codec: Codec, usage: Mapping[str, Any]) -> dict[str, float]:
    """`rate/...`: nominal rates from the live module; bitrate of an entropy coder on this test set."""
    values = {"rate/frame_rate": codec.frame_rate, "rate/streams": float(codec.quantizer.streams)}
    if codec.quantizer.streams:
        values |= {
            "rate/token_rate": codec.token_rate,
            "rate/bits_per_frame": codec.quantizer.bits_per_frame,
            "rate/bitrate": codec.bitrate,
            "rate/entropy_bitrate": codec.frame_rate * usage["entropy_bits_per_frame"],
        }
    return values


def of_reference(codec: "Reference", bits: int | None, seconds: float) -> dict[str, float]:
    """`rate/...`: the measured bitrate of the payload, and what else the codec states."""
    values = {f"rate/{name}": float(value) for name, value in codec.rates._asdict().items() if value}
    if bits is not None:
        values["rate/bitrate"] = bits / seconds
    return values
