"""No quantization: the ceiling that a codec's backbone could reach."""

from __future__ import annotations

from torch import Tensor

from quantizers.contract import Config, Quantized, Quantizer
from quantizers.option_checks import QuantizerError
from quantizers.parts.straight_through import zero_loss


class Identity(Quantizer):
    """No quantization: features pass unchanged. There are no codes, so there is no bitrate."""

    family = "none"

    def __init__(self, dim: int, config: Config) -> None:
        super().__init__(dim, config)
        self.codebook_sizes = ()

    @classmethod
    def fit(cls, bits: float, options: object) -> dict[str, object]:
        return {}

    def quantize(self, features: Tensor) -> Quantized:
        codes = features.new_zeros((*features.shape[:2], 0)).long()
        return Quantized(features, codes, zero_loss(features), {})

    def lookup(self, codes: Tensor) -> Tensor:
        raise QuantizerError(
            "'none' does not quantize, so there are no codes to decode; choose another quantizer"
        )

    def surrogate(self, features: Tensor) -> Tensor:
        return features
