"""Recordings through a trained codec into bytes and back."""

from __future__ import annotations

import torch
from torch import Tensor

from codec.bitstream import payload
from codec.bitstream.container import IDENTITY_BYTES, CodedRecording, StreamError
from codec.model import Codec


def identity_of(digest: str) -> bytes:
    """What a file keeps of the digest of a codec's weights (`sha256:...`): its first 8 bytes."""
    return bytes.fromhex(digest.rpartition(":")[2])[:IDENTITY_BYTES]


def check_codes(codec: Codec) -> None:
    """Raise StreamError where a codec has no codes to write."""
    if not codec.quantizer.streams:
        raise StreamError(
            f"the quantizer {codec.quantizer.name or type(codec.quantizer).__name__!r} has no codes, so that "
            "nothing can be coded; give a run of another quantizer"
        )


def check_own(codec: Codec, digest: str, identity: bytes, sizes: tuple[int, int, int]) -> None:
    """Raise StreamError unless a header is of `codec`: its identity, and its sample rate, hop and factors."""
    own = identity_of(digest)
    if identity != own:
        raise StreamError(
            f"it was coded with the weights {identity.hex()}, and these are {own.hex()}; give the run "
            "that encoded it"
        )
    if sizes != (codec.sample_rate, codec.hop, len(codec.quantizer.factor_sizes)):
        raise StreamError(
            "its header does not fit the codec that it names: it is not a file of `codecbench encode`"
        )


@torch.no_grad()
def encode(codec: Codec, digest: str, audio: Tensor, model: str | None = None) -> CodedRecording:
    """Code `audio` [samples], float32 on [-1, 1] at the codec's sample rate.

    digest: of the codec's weights. model: of `payload.MODELS`; None takes the one that needs the fewest bits.
    Raises StreamError for a codec without codes, and QuantizerError for audio that is not finite.
    """
    check_codes(codec)
    quantizer = codec.eval().quantizer
    sizes = quantizer.factor_sizes
    codes = torch.zeros(1, 0, quantizer.streams, dtype=torch.int64)
    if len(audio):
        codes = codec.encode(audio[None])
    factors = quantizer.factors(codes)[0].cpu().numpy()
    strides = quantizer.factor_strides
    lengths = payload.shortest(factors, sizes, strides=strides)
    chosen = lengths[model] if model else min(lengths.values(), key=lambda length: length.bits)
    return CodedRecording(
        settings=chosen.settings,
        identity=identity_of(digest),
        sample_rate=codec.sample_rate,
        hop=codec.hop,
        samples=len(audio),
        frames=len(factors),
        factors=len(sizes),
        payload=payload.write(factors, sizes, chosen.settings, strides=strides),
    )


@torch.no_grad()
def decode(codec: Codec, digest: str, coded: CodedRecording) -> Tensor:
    """Audio [samples] float32: the very values of `codec.reconstruct` on the machine that decodes.

    Raises StreamError for a recording that another codec coded.
    """
    check_codes(codec)
    quantizer = codec.eval().quantizer
    check_own(codec, digest, coded.identity, (coded.sample_rate, coded.hop, coded.factors))
    if not coded.frames:
        return torch.zeros(coded.samples)
    sizes, strides = quantizer.factor_sizes, quantizer.factor_strides
    factors = payload.read(coded.payload, coded.frames, sizes, coded.settings, strides=strides)
    codes = quantizer.from_factors(torch.from_numpy(factors)[None])
    device = next(codec.parameters()).device
    return codec.decode(codes.to(device))[0, : coded.samples].cpu()
