"""The codec: encoder, quantizer, decoder."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from codec.backbones.contract import Backbone
from quantizers import Quantized, Quantizer


class CodecOutput(NamedTuple):
    """audio: [batch, samples], as long as the input; quantized: what the quantizer returned of `features`
    [batch, frames, dim]."""

    audio: Tensor
    quantized: Quantized
    features: Tensor


class Codec(nn.Module):
    """A backbone around a quantizer.

    sample_rate, frame_rate: Hz. token_rate: tokens per second. bitrate: nominal bit/s. Rates come from the
    live quantizer.
    """

    def __init__(
        self, encoder: nn.Module, quantizer: Quantizer, decoder: nn.Module, *, sample_rate: int, hop: int
    ) -> None:
        super().__init__()
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder
        self.sample_rate, self.hop = sample_rate, hop

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.hop

    @property
    def token_rate(self) -> float:
        return self.frame_rate * self.quantizer.tokens_per_frame

    @property
    def bitrate(self) -> float:
        return self.frame_rate * self.quantizer.bits_per_frame

    def prefix(self, stages: int) -> "Codec":
        """The codec with the first `stages` of its quantizer, which shares all weights. Raises QuantizerError
        where there are no such stages."""
        quantizer = self.quantizer.prefix(stages)
        part = Codec(self.encoder, quantizer, self.decoder, sample_rate=self.sample_rate, hop=self.hop)
        return part.train(self.training)

    def features(self, audio: Tensor) -> Tensor:
        """Unquantized features [batch, frames, dim] of `audio` [batch, samples], padded to whole frames."""
        if not getattr(self.encoder, "takes_any_length", False):
            audio = functional.pad(audio, (0, -audio.shape[-1] % self.hop))
        return self.encoder(audio)

    def forward(self, audio: Tensor) -> CodecOutput:
        """Reconstruct `audio` [batch, samples] through the quantizer."""
        features = self.features(audio)
        quantized = self.quantizer(features)
        return CodecOutput(self.decoder(quantized.features)[:, : audio.shape[-1]], quantized, features)

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Codes [batch, frames, streams] int64 of `audio` [batch, samples]."""
        return self.quantizer.encode(self.features(audio))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Audio [batch, samples] of `codes`, whole frames; cut it to the original's length."""
        return self.decoder(self.quantizer.decode(codes))

    @torch.no_grad()
    def reconstruct(self, audio: Tensor) -> Tensor:
        """`audio` [batch, samples] through encoder, quantizer and decoder, of the same length."""
        return self.forward(audio).audio


def build(backbone: Backbone, make_quantizer: Callable[[int], Quantizer], seed: int) -> Codec:
    """A codec whose backbone weights depend on `seed` alone, whatever its quantizer draws.

    make_quantizer: called with the backbone's dim. Torch's global generator is left as it was.

    Examples:
        >>> from codec import backbones
        >>> from quantizers import create
        >>> codec = build(backbones.get("mdct-tiny"), lambda dim: create("fsq", dim=dim, bits=12), seed=0)
        >>> round(codec.bitrate), codec.sample_rate  # bit/s, Hz
        (2000, 16000)
        >>> codec.eval().encode(torch.zeros(1, 16000)).shape  # a second: [batch, frames, streams]
        torch.Size([1, 168, 1])
    """
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(seed)
        encoder, decoder = backbone.build()
        torch.manual_seed(seed)
        quantizer = make_quantizer(backbone.dim)
    return Codec(encoder, quantizer, decoder, sample_rate=backbone.sample_rate, hop=backbone.hop)
