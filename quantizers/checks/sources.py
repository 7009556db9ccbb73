"""Sources to quantize: some whose rate-distortion function is known, and recorded frames.

`Recorded` frames, such as the features of a trained codec, are known by samples alone. Their bound is that of
a Gaussian source with the same covariance, which is the worst that they can be at any rate (Berger 1971), for
blocks of one frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from quantizers.checks.rate_distortion import blahut_arimoto_snr, water_filling_snr
from quantizers.option_checks import QuantizerError

RECORDED = "recorded"
SOURCES = ("uniform", "gaussian", "laplacian", "correlated")
CORRELATION = 0.9  # of neighbours in the first-order Gauss-Markov source


@dataclass(frozen=True)
class Recorded:
    """Frames of a source that is known by its samples alone.

    train, test: [frames, dim]. clips: [test frames], the number of the clip that each is from; frames of one
    are not independent, so standard errors are over clips.
    """

    train: Tensor
    test: Tensor
    clips: Tensor

    @cached_property
    def standard(self) -> Recorded:
        """The same with a mean of 0 in each channel and a mean variance of 1, as found in `train`."""
        mean = self.train.mean(0)
        scale = (self.train - mean).square().mean().sqrt()
        return Recorded((self.train - mean) / scale, (self.test - mean) / scale, self.clips)


Source = str | Recorded


def sample(source: str, blocks: int, dim: int, generator: torch.Generator | None = None) -> Tensor:
    """Blocks [blocks, dim] of a source of unit variance."""
    if source == "uniform":
        return (torch.rand(blocks, dim, generator=generator) * 2 - 1) * math.sqrt(3)
    normal = torch.randn(blocks, dim, generator=generator)
    if source == "gaussian":
        return normal
    if source == "laplacian":
        uniform = torch.rand(blocks, dim, generator=generator).clamp(1e-7, 1 - 1e-7) - 0.5
        return -torch.sign(uniform) * torch.log1p(-2 * uniform.abs()) / math.sqrt(2)
    if source == "correlated":
        values = [normal[:, 0]]
        for i in range(1, dim):
            values.append(CORRELATION * values[-1] + math.sqrt(1 - CORRELATION**2) * normal[:, i])
        return torch.stack(values, 1)
    raise QuantizerError(f"unknown source {source!r}; known: {', '.join(SOURCES)}")


def shannon_snr(source: Source, bits: float, dim: int) -> float:
    """Best signal-to-noise ratio in dB at `bits` a value; of recorded frames, that of a Gaussian source.

    Gaussian: 6.02 R (Shannon 1959). Correlated: reverse water-filling over the eigenvalues of a block of
    `dim` values (Cover and Thomas, theorem 10.3.3). Uniform and Laplacian: D(R) by the Blahut-Arimoto
    algorithm.
    """
    if isinstance(source, Recorded):
        return water_filling_snr(bits, source.test.double().mT.cov())
    if source == "gaussian":
        return 20 * math.log10(2) * bits
    if source == "correlated":
        lags = torch.arange(dim, dtype=torch.float64)
        return water_filling_snr(bits, CORRELATION ** (lags.unsqueeze(0) - lags.unsqueeze(1)).abs())
    return blahut_arimoto_snr(source, bits)


def high_rate_snr(source: str, bits: float, dim: int, second_moment: float = 1 / 12) -> float:
    """Prediction in dB at `bits` a value for an entropy-coded lattice of this normalised second moment.

    For the uniform source that is also what a fixed-rate lattice that fills the cube reaches.
    """
    entropy = {  # differential entropy a value in bits, at unit variance
        "uniform": math.log2(2 * math.sqrt(3)),
        "gaussian": 0.5 * math.log2(2 * math.pi * math.e),
        "laplacian": math.log2(math.e * math.sqrt(2)),
        "correlated": 0.5 * math.log2(2 * math.pi * math.e)
        + (dim - 1) / (2 * dim) * math.log2(1 - CORRELATION**2),
    }[source]
    return -10 * math.log10(second_moment * 4 ** (entropy - bits))


def draw(source: Source, blocks: int, dim: int, generator: torch.Generator) -> Tensor:
    """Random blocks [blocks, dim] of a source; of recorded frames, those of `train`, with repetition."""
    if isinstance(source, Recorded):
        return source.train[torch.randint(len(source.train), (blocks,), generator=generator)]
    return sample(source, blocks, dim, generator)
