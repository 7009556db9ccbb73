"""Quantizers on sources whose rate-distortion function is known: how many decibels does each leave on the
table?

A block of `dim` values of the source goes through the quantizer, which is trained on it for a moment where
anything in it can be trained (codebooks, the linear maps around scalar and planar grids), and the
signal-to-noise ratio on fresh values is compared with Shannon's bound at the quantizer's own nominal bits,
and with the high-rate prediction for a lattice of its normalised second moment (Zador 1982, Gersho 1979):
D = G 2^(2 h) 2^(-2 R) with h the differential entropy a value in bits. The bounds are for any block
length; a quantizer of `dim` values at a fixed rate cannot reach them.

`Recorded` frames, such as the features of a trained codec, are a source, too. Its rate-distortion function is
not known; that of a Gaussian source with the same covariance is the worst that it can be at any rate
(Berger 1971), for blocks of one frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from quantizers import registry
from quantizers.checks.entropy_coded import entropy_coded_snr
from quantizers.checks.rate_distortion import blahut_arimoto_snr, water_filling_snr
from quantizers.contract import NO_ESTIMATE, Quantizer
from quantizers.geometry.figures_of_merit import EXACT, TRELLIS
from quantizers.geometry.lattices import DIMENSIONS
from quantizers.methods.fsq import FSQ
from quantizers.methods.lattice import LatticeConfig, LatticeQuantizer
from quantizers.methods.learned_lattice import LearnedLatticeConfig, LearnedLatticeQuantizer
from quantizers.methods.q2d2 import Q2D2
from quantizers.methods.trellis import TrellisQuantizer
from quantizers.option_checks import QuantizerError
from quantizers.usage import UsageCounter

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


@dataclass(frozen=True)
class Point:
    """One quantizer on one source: ratios in decibels, bits per value."""

    quantizer: str
    source: str
    bits: float
    snr: float
    error: float  # standard error of snr
    shannon: float  # of recorded frames: what a Gaussian source of their covariance could reach
    # A cubic lattice's prediction, at fixed rate without entropy coding of a uniform source; NaN if recorded.
    high_rate: float
    gap: float  # shannon - snr
    # As high_rate, for the second moment of the quantizer's own cells; NaN where they have none of their own.
    own_high_rate: float = math.nan
    nominal: float = math.nan  # bits of the codebooks; `bits` is less where it is a measured entropy
    entropy_coded: float = math.nan  # entropy-coded uniform scalar quantization at `bits`


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


def cell_moment(quantizer: Quantizer) -> float:
    """Normalised second moment of the cells of a fixed quantizer, for `high_rate_snr`; NaN for other methods.

    A trellis: of its long paths. A path over few channels gains less.
    """
    config: Any = quantizer.config
    if isinstance(quantizer, LatticeQuantizer):
        return math.nan if config.bound == "shell" else EXACT[config.lattice]
    if isinstance(quantizer, LearnedLatticeQuantizer):
        return quantizer.lattice.figure_of_merit()
    if isinstance(quantizer, TrellisQuantizer):
        return TRELLIS[config.states]
    if isinstance(quantizer, Q2D2):
        cells = {"rect": "Z", "hex": "A2" if config.spacing == "ideal" else "released-hex"}
        return EXACT[cells.get(config.grid, config.grid)]
    return EXACT["Z"] if isinstance(quantizer, FSQ) else math.nan


def measure(
    quantizer: Quantizer,
    source: Source,
    *,
    steps: int = 400,
    batch: int = 1024,
    test_blocks: int = 8192,
    seed: int = 0,
    label: str = "",
    rate_weight: float = 0.0,
    learning_rate: float = 1e-2,
) -> Point:
    """Train `quantizer` on `source` for `steps` batches of blocks, and test it on fresh ones, or on all that
    were recorded for the test.

    label: in place of the quantizer's name. rate_weight: squared error per bit per value; with one, the
    training is entropy-constrained, and the point is placed by the measured entropy of its codes.
    """
    dim = quantizer.dim
    generator = torch.Generator().manual_seed(seed)
    train(
        quantizer,
        source,
        steps=steps,
        batch=batch,
        generator=generator,
        rate=learning_rate,
        rate_weight=rate_weight,
    )
    recorded = isinstance(source, Recorded)
    blocks = source.test if isinstance(source, Recorded) else sample(source, test_blocks, dim, generator)
    with torch.no_grad():
        outputs = [quantizer.eval()(part.unsqueeze(0)) for part in blocks.split(8192)]
    decoded = torch.cat([out.features[0] for out in outputs])
    distortion = (decoded - blocks).square().mean(1).double()
    groups = source.clips if isinstance(source, Recorded) else torch.arange(len(blocks))
    mean, error = _mean(distortion, groups)
    power = blocks.var(0).mean().item() if recorded else 1.0
    nominal = bits = quantizer.bits_per_frame / dim
    if rate_weight:
        bits = _entropy(quantizer, torch.cat([out.codes for out in outputs], 1)) / dim
    bound = shannon_snr(source, bits, dim)
    cubic = own = math.nan
    if not isinstance(source, Recorded):
        cubic = high_rate_snr(source, bits, dim)
        own = high_rate_snr(source, bits, dim, cell_moment(quantizer))
    snr = 10 * math.log10(power / mean)
    return Point(
        label or quantizer.name,
        RECORDED if isinstance(source, Recorded) else source,
        bits,
        snr,
        10 / math.log(10) * error / mean,
        bound,
        cubic,
        bound - snr,
        own,
        nominal,
        entropy_coded_snr(source, bits) if isinstance(source, str) else math.nan,
    )


def _entropy(quantizer: Quantizer, codes: Tensor) -> float:
    """Bits per frame of an entropy coder that codes each factor by its frequencies in `codes`."""
    counter = UsageCounter(quantizer.codebook_sizes, quantizer.factor_sizes)
    counter.update(codes, quantizer.factors(codes))
    return float(counter.report()["entropy_bits_per_frame"])


def _mean(values: Tensor, groups: Tensor) -> tuple[float, float]:
    """The mean of `values`, and its standard error where those of one group may hang together."""
    mean = values.mean()
    sums = torch.zeros(int(groups.max()) + 1, dtype=values.dtype).index_add_(0, groups, values - mean)
    return mean.item(), sums.square().sum().sqrt().item() / len(values)


def train(
    quantizer: Quantizer,
    source: Source,
    *,
    steps: int,
    batch: int,
    generator: torch.Generator,
    rate: float = 1e-2,
    rate_weight: float = 0.0,
) -> None:
    """Minimise the squared error, and `rate_weight` times the estimated bits per value; Adam, cosine decay.

    With a weight it starts at a quarter of the scale: tanh is then nearly straight over four deviations, and
    the entropy is near what a weight leads to.
    """
    quantizer.train()
    _start(quantizer, _draw(source, 4096, quantizer.dim, generator), 0.25 if rate_weight else 1.0)
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.Adam(parameters, lr=rate) if parameters else None
    for step in range(steps):
        blocks = _draw(source, batch, quantizer.dim, generator).unsqueeze(0)
        out = quantizer(blocks)
        if optimizer is None:
            continue
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = (out.features - blocks).square().mean() + out.loss
        if rate_weight:
            loss = loss + rate_weight * quantizer.estimated_bits(blocks) / quantizer.dim
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _draw(source: Source, blocks: int, dim: int, generator: torch.Generator) -> Tensor:
    if isinstance(source, Recorded):
        return source.train[torch.randint(len(source.train), (blocks,), generator=generator)]
    return sample(source, blocks, dim, generator)


def _start(quantizer: Quantizer, blocks: Tensor, scale: float = 1.0) -> None:
    """Where square linear maps surround the quantizer, start from the identity times `scale` and the
    least-squares way back."""
    inside, outside = getattr(quantizer, "project_in", None), getattr(quantizer, "project_out", None)
    if not (isinstance(inside, torch.nn.Linear) and isinstance(outside, torch.nn.Linear)):
        return
    with torch.no_grad():
        if inside.weight.shape[0] == inside.weight.shape[1]:
            inside.weight.copy_(scale * torch.eye(len(inside.weight)))
            inside.bias.zero_()
        smooth = quantizer.eval()(blocks.unsqueeze(0)).features[0] - outside.bias
        quantizer.train()
        low = torch.linalg.lstsq(outside.weight, smooth.mT).solution.mT
        design = torch.cat((low, torch.ones(len(low), 1)), 1)
        solution = torch.linalg.lstsq(design, blocks).solution
        outside.weight.copy_(solution[:-1].mT)
        outside.bias.copy_(solution[-1])


def run(
    name: str,
    source: Source,
    bits: Sequence[float],
    *,
    dim: int = 8,
    steps: int = 200,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    rate_weight: float = 0.0,
) -> tuple[list[Point], str]:
    """One quantizer, with these `options`, on one source at each number of `bits` a value; and why, if it
    refused some of them. rate_weight: as in `measure`.

    Scalar, planar and lattice methods get one channel a value, so that no value is lost on the way in; on
    recorded frames as many as they choose at that rate, as in a codec. Runs on one thread: the tensors are
    small.
    """
    from loguru import logger

    logger.disable("vector_quantize_pytorch")  # it warns of first batches smaller than the codebook
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fit_options, given = registry.entry(name).cls.fit_options, dict(options or {})
    channels = {"channels": dim} if "channels" in fit_options else {}
    if "blocks" in fit_options:
        block = given.get("dimension", LearnedLatticeConfig.dimension)
        if name == "lattice":
            block = DIMENSIONS[given.get("lattice", LatticeConfig.lattice)]
        channels = {"blocks": max(1, round(dim / block))}
    if isinstance(source, Recorded):
        source, dim, channels = source.standard, source.train.shape[1], {}
    points, refusal = [], ""
    for each in bits:
        torch.manual_seed(seed)
        try:
            quantizer = registry.create(name, dim=dim, bits=each * dim, **{**channels, **given})
        except QuantizerError as error:
            refusal = str(error)
            continue
        if quantizer.streams:
            if rate_weight and not quantizer.estimates_rate(quantizer.config):
                refusal = f"{name} {NO_ESTIMATE}"
                break
            label = " ".join([name, *(f"{key}={value}" for key, value in given.items())])
            if rate_weight:
                label += f" rate_weight={rate_weight:g}"
            trained = measure(quantizer, source, steps=steps, seed=seed, label=label, rate_weight=rate_weight)
            points.append(trained)
    torch.set_num_threads(threads)
    return points, refusal
