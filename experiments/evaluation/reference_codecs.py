"""Reference codecs over the test split: audio and measured rates."""

import time
from typing import TYPE_CHECKING, Any

from experiments.evaluation.test_set import Reconstructions

if TYPE_CHECKING:
    from codec.references import Reference
    from experiments.data.dataset import Split
    from experiments.evaluation.test_set import Reconstructions


def reconstruct(
    codec: "Reference", split: "Split", sample_rate: int, check: Any
) -> "tuple[Reconstructions, int | None]":
    """Every clip of `split` through `codec`, and the bits that they took (None: it spends none)."""
    audio = {}
    compute = seconds = 0.0
    bits: int | None = None
    for index in range(len(split)):
        clip = split.clip(index)
        started = time.perf_counter()
        decoded = codec.reconstruct(clip, sample_rate)
        compute += time.perf_counter() - started
        seconds += len(clip) / sample_rate
        if decoded.bits is not None:
            bits = (bits or 0) + decoded.bits
        audio[split.names[index]] = (clip, decoded.audio)
        check(index + 1, len(split))
    nothing: dict[str, Any] = {}
    made = Reconstructions(
        audio=audio,
        usage=nothing,
        spread=nothing,
        histograms=nothing,
        latents=nothing,
        slices=nothing,
        compute_seconds=compute,
        audio_seconds=seconds,
        exact=0,
    )
    return made, bits
