"""Spread of features over what a quantizer offers: saturation of its channels, effective dimension, noise."""

from __future__ import annotations

import math

from torch import Tensor

from quantizers.contract import Quantized, Quantizer
from quantizers.saturation import DimensionCounter, SaturationCounter


class SpreadCounter:
    """What goes through a quantizer in eval mode, batch by batch: saturation, dimension, noise."""

    def __init__(self, quantizer: Quantizer) -> None:
        ranges = quantizer.channel_ranges
        self._saturation = None if ranges is None else SaturationCounter(ranges)
        self._before, self._after = DimensionCounter(quantizer.dim), DimensionCounter(quantizer.dim)
        self._squared_error = 0.0

    def update(self, features: Tensor, quantized: Quantized) -> None:
        """Take in `features` [..., dim] and what the quantizer made of them."""
        self._before.update(features)
        self._after.update(quantized.features)
        error = features.detach().cpu().double() - quantized.features.detach().cpu().double()
        self._squared_error += float(error.square().sum())
        if self._saturation is not None:
            self._saturation.update(quantized.diagnostics["coordinates"])

    def metrics(self) -> dict[str, float]:
        """`effective_dimension` of the features and `effective_dimension_quantized`; `signal_to_noise` in dB,
        the variance of the features over the squared error of the quantizer, where both are finite and not 0.

        Where channels have ranges, also `saturation`, the share of values beyond the centres of outermost
        cells, and `saturated_channels`, the number of channels above their limits.
        """
        values = {
            "effective_dimension": self._before.effective_dimension,
            "effective_dimension_quantized": self._after.effective_dimension,
        }
        signal = self._before.frames * float(self._before.covariance.trace())
        if 0 < signal < math.inf and 0 < self._squared_error < math.inf:
            values["signal_to_noise"] = 10 * math.log10(signal / self._squared_error)
        if self._saturation is not None:
            report = self._saturation.report()
            values["saturation"] = report["share"]
            values["saturated_channels"] = float(round(report["saturated"] * len(report["shares"])))
        return values

    @property
    def warning(self) -> str | None:
        """A sentence on saturated channels, if there are any."""
        return None if self._saturation is None else self._saturation.report()["warning"]
