"""Encoders and decoders with the weights that others trained and released."""

from pathlib import Path

import torch
from torch import nn

from codec import weights
from codec.backbones.contract import Backbone, BackboneError
from codec.backbones.registry import get
from codec.backbones.soundstream import SoundStreamDecoder, SoundStreamEncoder
from codec.weights.downloading import Progress


def load_released(
    name: str,
    *,
    backbone: Backbone | None = None,
    folder: str | Path | None = None,
    fetch: bool = False,
    progress: Progress | None = None,
) -> tuple[nn.Module, nn.Module]:
    """The encoder and decoder of the release `name`, on the CPU and in training mode, like new ones.

    backbone: the configuration for which they are meant; its sizes must be the released ones. folder, fetch,
    progress: source of the weights, as in `codec.weights.obtain`.

    Raises BackboneError for other sizes, and WeightsError if the weights cannot be obtained.
    """
    tensors = weights.obtain(name, folder=folder, fetch=fetch, progress=progress)
    released = get(name)
    if backbone is not None and backbone != released:
        raise BackboneError(
            f"the weights of {name} fit only the released sizes, {released}; this is {backbone}. Use the "
            f"backbone {name} without options, or train from new weights"
        )
    with torch.random.fork_rng(devices=[]):  # the draw of new weights is of no use here
        encoder, decoder = released.build()
    assert isinstance(encoder, SoundStreamEncoder)
    assert isinstance(decoder, SoundStreamDecoder)
    encoder.load_kernels(weights.part(tensors, "encoder"))
    decoder.load_kernels(weights.part(tensors, "decoder"))
    return encoder, decoder
