"""Speeds of devices, stated: for plans of trainings on a device that is not here.

Peaks are those of the makers' data sheets (dense, without sparsity). A training reaches a share of them, and
the shares are assumptions: `codecbench plan --measure` on the device itself takes their place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_PLAIN_SHARE = 0.5  # of the peak in fp32 without tensor cores
_TENSOR_SHARE = {"h100": 0.25}  # of the peak of tensor cores
_USUAL_TENSOR_SHARE = 0.3
# TFLOP/s: fp32, TF32, bf16
_PEAKS: Mapping[str, tuple[float, float, float]] = {
    "a100": (19.5, 156.0, 312.0),
    "h100": (67.0, 494.0, 989.0),
    "l40s": (91.6, 183.0, 362.0),
}
_ARITHMETICS = ("fp32", "tf32", "bf16")
MOST = 1e6  # TFLOP/s


class DeviceSpeedError(ValueError):
    """A device's speed is stated wrongly; the message says what to change."""


@dataclass(frozen=True)
class DeviceSpeed:
    """Operations a second that a training reaches, by arithmetic. device: as it was stated."""

    device: str
    by_arithmetic: Mapping[str, float]

    def of(self, precision: str, tf32: bool = False) -> float:
        """FLOP/s of a training in `precision` (`auto` is bf16), whose fp32 is computed in TF32 or not."""
        arithmetic = "bf16" if precision != "fp32" else "tf32" if tf32 else "fp32"
        return self.by_arithmetic[arithmetic]


def parse(text: str) -> DeviceSpeed:
    """The speed that `text` states: the name of a device, or the TFLOP/s that trainings reach on it.

    Raises DeviceSpeedError.
    """
    name = text.strip().lower()
    if name in _PEAKS:
        shares = (_PLAIN_SHARE, *(_TENSOR_SHARE.get(name, _USUAL_TENSOR_SHARE),) * 2)
        reached = [share * peak * 1e12 for share, peak in zip(shares, _PEAKS[name], strict=True)]
        return DeviceSpeed(name, dict(zip(_ARITHMETICS, reached, strict=True)))
    try:
        number = float(name)
    except ValueError:
        number = 0.0
    if not 0 < number <= MOST:
        raise DeviceSpeedError(
            f"{text!r} is no speed of a device; give one of {', '.join(_PEAKS)}, or the TFLOP/s that "
            f"trainings reach on it, above 0 and at most {MOST:,.0f}"
        )
    return DeviceSpeed(f"a device of {number:g} TFLOP/s", dict.fromkeys(_ARITHMETICS, number * 1e12))
