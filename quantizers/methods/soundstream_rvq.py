"""The bottleneck of SoundStream as released in Lyra 2: residual stages of 16 codes, 4 bits each.

Zeghidour et al. 2021, arXiv 2107.03312; sizes of github.com/google/lyra, release 1.3.2: 46 stages on 64
channels at 50 frames per second, of which the first 16, 30 or 46 make 3.2, 6.0 or 9.2 kbit/s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from quantizers.methods.rvq import RVQ, RVQConfig
from quantizers.option_checks import QuantizerError, check_open
from quantizers.rates import check_bits

STAGES = 46
STAGE_BITS = 4
# Vectors that count as having chosen each released code, beside those of training: about what two batches of
# eight seconds bring. A power of two, so that with decay 1 the codes stay as they are, bit for bit.
RELEASED_COUNT = 64.0


@dataclass(frozen=True, kw_only=True)
class SoundStreamRVQConfig(RVQConfig):
    """Options of `soundstream-rvq`; those that are not listed are as in `rvq`.

    stages: number of the first stages that are used, of the 46 released ones.
    """

    codebook_size: int = 2**STAGE_BITS
    stages: int = STAGES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stages > STAGES:
            raise QuantizerError(f"stages must be at most {STAGES}, which were released, not {self.stages}")


class SoundStreamRVQ(RVQ):
    """`rvq` with the sizes of the released codebooks, which can be loaded into it.

    Without the released codebooks it starts by k-means, as `rvq` does. Training continues to move the
    released codes unless `decay` is 1 and `revive_below` is 0.
    """

    config_class = SoundStreamRVQConfig
    released = "soundstream"
    config: SoundStreamRVQConfig

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_open("stages", options)
        check_bits(bits)
        stages = max(1, round(bits / STAGE_BITS))
        if stages > STAGES:
            raise QuantizerError(
                f"{bits:g} bits are more than the released {STAGES} stages of {STAGE_BITS} bits; use rvq, or "
                f"at most {STAGES * STAGE_BITS} bits"
            )
        return {**options, "stages": stages}

    def load_released(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the codes of the first stages from tensors["codebooks"] [stages, codes, dim]."""
        size = (self.config.codebook_size, self.dim)
        codebooks = tensors.get("codebooks")
        if codebooks is None or codebooks.shape[1:] != size or len(codebooks) < self.config.stages:
            shape = "none" if codebooks is None else list(codebooks.shape)
            raise QuantizerError(
                f"{self.name or type(self).__name__} takes codebooks [{self.config.stages} or more, "
                f"{size[0]}, {size[1]}], and these are {shape}; use it in the backbone that they were "
                "released with"
            )
        for stage, codes in zip(self._stages, codebooks, strict=False):
            stage.assign(codes.unsqueeze(0), RELEASED_COUNT)
