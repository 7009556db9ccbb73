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
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from quantizers import registry
from quantizers.contract import Quantizer
from quantizers.geometry.figures_of_merit import EXACT, TRELLIS
from quantizers.geometry.lattices import DIMENSIONS
from quantizers.methods.fsq import FSQ
from quantizers.methods.lattice import LatticeConfig, LatticeQuantizer
from quantizers.methods.q2d2 import Q2D2
from quantizers.methods.trellis import TrellisQuantizer
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
        return _water_filling(bits, source.test.double().mT.cov())
    if source == "gaussian":
        return 20 * math.log10(2) * bits
    if source == "correlated":
        lags = torch.arange(dim, dtype=torch.float64)
        return _water_filling(bits, CORRELATION ** (lags.unsqueeze(0) - lags.unsqueeze(1)).abs())
    return _blahut_arimoto(source, bits)


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
) -> Point:
    """Train `quantizer` on `source` for `steps` batches of blocks, and test it on fresh ones, or on all that
    were recorded for the test."""
    dim = quantizer.dim
    generator = torch.Generator().manual_seed(seed)
    train(quantizer, source, steps=steps, batch=batch, generator=generator)
    recorded = isinstance(source, Recorded)
    blocks = source.test if isinstance(source, Recorded) else sample(source, test_blocks, dim, generator)
    with torch.no_grad():
        decoded = [quantizer.eval()(part.unsqueeze(0)).features[0] for part in blocks.split(8192)]
    distortion = (torch.cat(decoded) - blocks).square().mean(1).double()
    groups = source.clips if isinstance(source, Recorded) else torch.arange(len(blocks))
    mean, error = _mean(distortion, groups)
    power = blocks.var(0).mean().item() if recorded else 1.0
    bits = quantizer.bits_per_frame / dim
    bound = shannon_snr(source, bits, dim)
    cubic = own = math.nan
    if not isinstance(source, Recorded):
        cubic = high_rate_snr(source, bits, dim)
        own = high_rate_snr(source, bits, dim, cell_moment(quantizer))
    snr = 10 * math.log10(power / mean)
    return Point(
        quantizer.name,
        RECORDED if isinstance(source, Recorded) else source,
        bits,
        snr,
        10 / math.log(10) * error / mean,
        bound,
        cubic,
        bound - snr,
        own,
    )


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
) -> None:
    """Minimise the squared error; Adam, cosine decay."""
    quantizer.train()
    _start(quantizer, _draw(source, 4096, quantizer.dim, generator))
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
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _draw(source: Source, blocks: int, dim: int, generator: torch.Generator) -> Tensor:
    if isinstance(source, Recorded):
        return source.train[torch.randint(len(source.train), (blocks,), generator=generator)]
    return sample(source, blocks, dim, generator)


def _start(quantizer: Quantizer, blocks: Tensor) -> None:
    """Where square linear maps surround the quantizer, start from the identity and the least-squares way
    back."""
    inside, outside = getattr(quantizer, "project_in", None), getattr(quantizer, "project_out", None)
    if not (isinstance(inside, torch.nn.Linear) and isinstance(outside, torch.nn.Linear)):
        return
    with torch.no_grad():
        if inside.weight.shape[0] == inside.weight.shape[1]:
            inside.weight.copy_(torch.eye(len(inside.weight)))
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
) -> tuple[list[Point], str]:
    """One quantizer, with these `options`, on one source at each number of `bits` a value; and why, if it
    refused some of them.

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
            points.append(measure(quantizer, source, steps=steps, seed=seed))
    torch.set_num_threads(threads)
    return points, refusal


def _water_filling(bits: float, covariance: Tensor) -> float:
    eigenvalues = torch.linalg.eigvalsh(covariance).clamp_min(1e-12)
    low, high = 0.0, float(eigenvalues.max())
    for _ in range(100):
        level = (low + high) / 2
        rate = 0.5 * torch.log2((eigenvalues / level).clamp_min(1)).mean().item()
        low, high = (level, high) if rate > bits else (low, level)
    return -10 * math.log10(
        (torch.minimum(eigenvalues, torch.tensor(level)).mean() / eigenvalues.mean()).item()
    )


@cache
def _curve(source: str) -> tuple[tuple[float, float], ...]:
    """Points (bits, distortion) of the rate-distortion function of a memoryless source, on a fine grid of
    values."""
    if source == "uniform":
        values = torch.linspace(-math.sqrt(3), math.sqrt(3), 601, dtype=torch.float64)
        mass = torch.ones_like(values)
    else:
        values = torch.linspace(-9, 9, 1201, dtype=torch.float64)
        mass = torch.exp(-math.sqrt(2) * values.abs())
    mass = mass / mass.sum()
    distance = (values.unsqueeze(1) - values.unsqueeze(0)).square()
    points = []
    output = mass.clone()
    for slope in torch.logspace(-0.3, 2.7, 25, dtype=torch.float64).tolist():
        kernel = torch.exp(-slope * distance)
        for _ in range(60):
            normaliser = kernel @ output
            output = output * ((mass / normaliser) @ kernel)
        normaliser = kernel @ output
        joint = mass.unsqueeze(1) * kernel * output / normaliser.unsqueeze(1)
        error = (joint * distance).sum().item()
        bits = (-slope * error - (mass * normaliser.log()).sum().item()) / math.log(2)
        points.append((bits, error))
    return tuple(points)


def _blahut_arimoto(source: str, bits: float) -> float:
    curve = _curve(source)
    for (low, first), (high, second) in pairwise(curve):
        if low <= bits <= high:
            share = (bits - low) / (high - low)
            return -10 * ((1 - share) * math.log10(first) + share * math.log10(second))
    if bits < curve[0][0]:  # towards zero bits and unit distortion
        return -10 * bits / curve[0][0] * math.log10(curve[0][1])
    return -10 * math.log10(curve[-1][1]) + 20 * math.log10(2) * (bits - curve[-1][0])
