"""Validation: losses and use of the codebooks on crops that stay the same."""

import numpy as np
import torch
from torch import Tensor

from codec.losses.objectives import Losses
from codec.model import Codec
from experiments.data.dataset import Crops, Split
from experiments.training.observer import Diverged
from quantizers import Quantizer
from quantizers.contract import CODEBOOK_BUFFERS
from quantizers.spread import SpreadCounter
from quantizers.usage import UsageCounter

CROPS = 32
COLLAPSE = 0.1  # of the perplexity, above 1, that a uniform source of as many tokens would show


def batch(split: Split, samples: int) -> Tensor:
    """The fixed crops [crops, samples] that every validation looks at."""
    crops = Crops(split, samples=samples, batch_size=CROPS, seed=0)
    return torch.from_numpy(np.ascontiguousarray(crops.batch(0)))


def check_finite(codec: Codec, step: int) -> None:
    """See that all that was learned up to `step` is finite: weights, and codebooks that are moving averages.

    Raises Diverged: batches alone may be skipped, but from such weights no batch leads back.
    """
    learned = [*codec.named_parameters(), *codec.named_buffers()]
    buffers = {name for name, _ in codec.named_buffers() if not name.endswith(CODEBOOK_BUFFERS)}
    kept = [(name, value) for name, value in learned if name not in buffers]
    finite = torch.stack([torch.isfinite(value).all() for _, value in kept]).tolist()  # read all at once
    broken = [name for (name, _), good in zip(kept, finite, strict=True) if not good]
    if broken:
        more = f" and {len(broken) - 1} others" if len(broken) > 1 else ""
        raise Diverged(
            f"the weights are not finite at step {step} ({broken[0]}{more}); a lower train.learning_rate may "
            "help"
        )


@torch.no_grad()
def measure(codec: Codec, losses: Losses, audio: Tensor) -> tuple[dict[str, float], list[float], str]:
    """Reconstruction losses on `audio` [crops, samples], the least use of a codebook, saturation and
    effective dimension, as metrics; the use of each codebook; a sentence on saturated channels, if any.
    Leaves `codec` in evaluation mode."""
    codec.eval()
    output = codec(audio)
    terms = losses.reconstruction(output.audio, audio)
    numbers = torch.stack([term.float() for term in terms.values()]).tolist()
    values = {f"validation/{name}": number for name, number in zip(terms, numbers, strict=True)}
    values["validation/loss"] = sum(values.values())
    shares = codebook_use(codec.quantizer, output.quantized.codes)
    if shares:
        values["validation/codebook_use"] = min(shares)
        values["validation/collapsed_codebooks"] = float(sum(share < COLLAPSE for share in shares))
    spread = SpreadCounter(codec.quantizer)
    spread.update(output.features, output.quantized)
    values |= {f"validation/{name}": value for name, value in spread.metrics().items()}
    return values, shares, spread.warning or ""


def codebook_use(quantizer: Quantizer, codes: Tensor) -> list[float]:
    """Perplexity of each independent codebook over `codes` [batch, frames, streams], as a share of what a
    uniform source of as many tokens would show: 0 for a single code, 1 for even use."""
    counter = UsageCounter.of(quantizer)
    counter.update(codes, quantizer.factors(codes))
    return [
        (factor["perplexity"] - 1) / max(factor["uniform_perplexity"] - 1, 1e-9)
        for factor in counter.report()["factors"]
        if factor["codes"] > 1
    ]
