"""The backbone of WavTokenizer and Q2D2: a SEANet encoder and a Vocos decoder."""

import math
from dataclasses import dataclass

from torch import nn

from codec.backbones.contract import MOST, Backbone, BackboneError, check_counts
from codec.backbones.seanet import SEANetEncoder
from codec.backbones.vocos import GROUPS, VocosDecoder


@dataclass(frozen=True, kw_only=True)
class WavTokenizerBackbone(Backbone):
    """The SEANet encoder and Vocos decoder of WavTokenizer (arXiv 2408.16532) and Q2D2 (arXiv 2512.01537).

    strides: of the encoder's stages, coarsest first; their product is the hop.
    encoder_width: channels before the first stage, doubled by each. lstm_layers: of the encoder.
    width, hidden, blocks: of the decoder's ConvNeXt layers.
    conditions: 4 as released, 0 (plain layer normalisation) computes the same once trained.
    """

    sample_rate: int = 24_000
    strides: tuple[int, ...] = (8, 5, 4, 2)
    encoder_width: int = 32
    lstm_layers: int = 2
    dim: int = 512
    width: int = 768
    hidden: int = 2304
    blocks: int = 12
    conditions: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.strides, list):  # as study files give it
            object.__setattr__(self, "strides", tuple(self.strides))
        strides = self.strides if isinstance(self.strides, tuple) else ()
        if not strides or any(type(stride) is not int or stride < 1 for stride in strides):
            raise BackboneError(f"strides must be a list of positive integers, not {self.strides!r}")
        if len(strides) > 8 or self.hop > MOST["hop"]:
            raise BackboneError(
                f"give at most 8 strides whose product is at most {MOST['hop']:,} samples per frame; these "
                f"are {len(strides)} with the product {self.hop:,}"
            )
        check_counts(self, but=("conditions",))
        if self.hop % 2:
            raise BackboneError(f"the product of the strides must be even, not {self.hop}")
        if self.encoder_width % 2:
            raise BackboneError(f"encoder_width must be even, not {self.encoder_width}")
        if self.width % GROUPS:
            raise BackboneError(f"width must be a multiple of {GROUPS}, not {self.width}")
        if type(self.conditions) is not int or self.conditions < 0:
            raise BackboneError(f"conditions must be an integer of at least 0, not {self.conditions!r}")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise BackboneError(f"dropout must be at least 0 and below 1, not {self.dropout!r}")

    @property
    def hop(self) -> int:
        return math.prod(self.strides)

    def build(self) -> tuple[nn.Module, nn.Module]:
        encoder = SEANetEncoder(
            strides=self.strides, width=self.encoder_width, lstm_layers=self.lstm_layers, dim=self.dim
        )
        decoder = VocosDecoder(
            hop=self.hop,
            **{name: getattr(self, name) for name in ("dim", "width", "hidden", "blocks")},
            conditions=self.conditions,
            dropout=self.dropout,
        )
        return encoder, decoder
