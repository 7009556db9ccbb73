"""Quantizers on sources whose rate-distortion function is known: how many decibels does each leave on the
table?

A block of `dim` values of the source goes through the quantizer, which starts from data and is trained for a
moment where anything in it can be trained (codebooks, the linear maps around scalar and planar grids). The
signal-to-noise ratio on fresh values is compared with Shannon's bound at the quantizer's own nominal bits,
and with the high-rate prediction for a lattice of its normalised second moment (Zador 1982, Gersho 1979):
D = G 2^(2 h) 2^(-2 R) with h the differential entropy a value in bits. The bounds are for any block
length; a quantizer of `dim` values at a fixed rate cannot reach them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quantizers import registry
from quantizers.checks.entropy_coded import entropy_coded_snr
from quantizers.checks.rate_distortion import components_snr
from quantizers.checks.sources import RECORDED, Recorded, Source, draw, high_rate_snr, sample, shannon_snr
from quantizers.contract import NO_ESTIMATE, Quantizer
from quantizers.geometry.figures_of_merit import EXACT, TRELLIS
from quantizers.geometry.lattices import DIMENSIONS
from quantizers.methods.fsq import FSQ
from quantizers.methods.lattice import LatticeConfig, LatticeQuantizer
from quantizers.methods.learned_lattice import LearnedLatticeConfig, LearnedLatticeQuantizer
from quantizers.methods.q2d2 import Q2D2
from quantizers.methods.trellis import TrellisQuantizer
from quantizers.option_checks import QuantizerError
from quantizers.parts.channels import ChannelQuantizer
from quantizers.parts.components import least_squares, set_linear
from quantizers.usage import UsageCounter

FITTED = {"channels": "fit", "allocation": "water-filling"}  # for values of unequal variance
STARTS = ("values", "components")
START_FRAMES = 20_000  # as many as in a codec
_BLOCKS = 8192  # that a start is judged by, and fresh ones for the test


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
    # Of recorded frames, for grids, lattices, trellises: channels that carry the bits, and the ratio that no
    # number of bits can exceed with so many, if the frames have more dimensions.
    channels: float = math.nan
    ceiling: float = math.nan


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
    test_blocks: int = _BLOCKS,
    seed: int = 0,
    label: str = "",
    rate_weight: float = 0.0,
    learning_rate: float = 1e-2,
) -> Point:
    """Train `quantizer` on `source` for `steps` batches of blocks, and test it on fresh ones, or on all that
    were recorded for the test.

    label: in place of the quantizer's name. rate_weight: squared error per bit per value; with one, the
    training is entropy-constrained, and the point is placed by the measured entropy of its codes.

    Where the quantizer can start from the values themselves and from principal components (`starts`), it is
    trained from both. The one with the better objective on fresh blocks is kept.
    """
    dim, tried = quantizer.dim, []
    for start in starts(quantizer, source):
        trained = copy.deepcopy(quantizer)
        train(
            trained,
            source,
            start=start,
            steps=steps,
            batch=batch,
            generator=torch.Generator().manual_seed(seed),
            rate=learning_rate,
            rate_weight=rate_weight,
        )
        tried.append(trained)
    if len(tried) > 1:
        fresh = draw(source, _BLOCKS, dim, torch.Generator().manual_seed(seed + 1))
        tried.sort(key=lambda trained: _objective(trained, fresh, rate_weight))
    quantizer.load_state_dict(tried[0].state_dict())
    blocks = (
        source.test
        if isinstance(source, Recorded)
        else sample(source, test_blocks, dim, torch.Generator().manual_seed(seed + 2))
    )
    distortion, codes = _coded(quantizer, blocks)
    groups = source.clips if isinstance(source, Recorded) else torch.arange(len(blocks))
    mean, error = _mean(distortion, groups)
    power = blocks.var(0).mean().item() if isinstance(source, Recorded) else 1.0
    nominal = bits = quantizer.bits_per_frame / dim
    if rate_weight:
        bits = _entropy(quantizer, codes) / dim
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
        *_ceiling(quantizer, source),
    )


def _ceiling(quantizer: Quantizer, source: Source) -> tuple[float, float]:
    """Channels and ceiling of a `Point`."""
    if not isinstance(source, Recorded) or not isinstance(quantizer, ChannelQuantizer):
        return math.nan, math.nan
    channels = quantizer.project_in.out_features
    return float(channels), components_snr(channels, source.test.double().mT.cov())


def starts(quantizer: Quantizer, source: Source) -> tuple[str, ...]:
    """The starts that `quantizer` is trained from on `source`.

    `components`: `Quantizer.start`, as in a codec. `values`: channel i is value i, and the way back is by
    least squares; where square linear maps surround fixed points or levels, and the source is not recorded.
    Components of independent values are an arbitrary rotation, whose values are closer to Gaussian ones. That
    is better for a Laplacian source and worse for a uniform one.
    """
    maps = (getattr(quantizer, "project_in", None), getattr(quantizer, "project_out", None))
    square = quantizer.codebook_vectors is None and all(
        isinstance(linear, torch.nn.Linear) and linear.weight.shape == (quantizer.dim, quantizer.dim)
        for linear in maps
    )
    return STARTS if square and not isinstance(source, Recorded) else STARTS[1:]


def _objective(quantizer: Quantizer, blocks: Tensor, rate_weight: float) -> float:
    """What `train` minimises, on `blocks` [blocks, dim], with the measured entropy for the estimate."""
    distortion, codes = _coded(quantizer, blocks)
    rate = rate_weight * _entropy(quantizer, codes) / quantizer.dim if rate_weight else 0.0
    objective = float(distortion.mean()) + rate
    return objective if math.isfinite(objective) else math.inf


def _coded(quantizer: Quantizer, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors per value [blocks], float64, and codes [1, blocks, streams]; blocks: [blocks, dim]."""
    with torch.no_grad():
        outputs = [quantizer.eval()(part.unsqueeze(0)) for part in blocks.split(8192)]
    decoded = torch.cat([out.features[0] for out in outputs])
    return (decoded - blocks).square().mean(1).double(), torch.cat([out.codes for out in outputs], 1)


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
    start: str = "components",
    steps: int,
    batch: int,
    generator: torch.Generator,
    rate: float = 1e-2,
    rate_weight: float = 0.0,
) -> None:
    """Minimise the squared error, and `rate_weight` times the estimated bits per value; Adam, cosine decay.

    start: as in `starts`. With a weight, linear maps start at a quarter of the scale: tanh is then nearly
    straight over four deviations, and the entropy is near what a weight leads to.
    """
    frames = (
        source.train[:START_FRAMES]  # in order of time within a clip
        if isinstance(source, Recorded)
        else sample(source, START_FRAMES, quantizer.dim, generator)
    )
    _start(quantizer, frames, start, 0.25 if rate_weight else 1.0)
    quantizer.train()
    parameters = list(quantizer.parameters())
    optimizer = torch.optim.Adam(parameters, lr=rate) if parameters else None
    for step in range(steps):
        blocks = draw(source, batch, quantizer.dim, generator).unsqueeze(0)
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


def _start(quantizer: Quantizer, frames: Tensor, start: str, scale: float) -> None:
    """Start from `frames` [frames, dim]; of linear maps around the quantizer, at `scale` times the range."""
    if start == "components":
        quantizer.start(frames)
        if scale == 1:
            return
    inside, outside = getattr(quantizer, "project_in", None), getattr(quantizer, "project_out", None)
    if not (isinstance(inside, torch.nn.Linear) and isinstance(outside, torch.nn.Linear)):
        return
    with torch.no_grad():
        if start == "values":
            inside.weight.copy_(scale * torch.eye(quantizer.dim))
            inside.bias.zero_()
        else:
            middle = getattr(quantizer, "middle", 0.0)
            inside.weight.mul_(scale)
            inside.bias.sub_(middle).mul_(scale).add_(middle)
        smooth = quantizer.eval()(frames.unsqueeze(0)).features[0] - outside.bias
        low = torch.linalg.lstsq(outside.weight, smooth.mT).solution.mT
        weight, bias = least_squares(low, frames)
        set_linear(outside, weight, bias)


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

    Scalar, planar and lattice methods get one channel a value where values are independent, so that none is
    lost on the way in. On the correlated source and on recorded frames, methods that can choose channels and
    levels by the features do so (`FITTED`), unless the options say otherwise. Runs on one thread: the tensors
    are small.
    """
    from loguru import logger

    logger.disable("vector_quantize_pytorch")  # it warns of first batches smaller than the codebook
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    given = dict(options or {})
    if isinstance(source, Recorded):
        source, dim = source.standard, source.train.shape[1]
    chosen = {**_channels(name, source, dim, given), **given}
    points, refusal = [], ""
    if registry.needs_features(name, chosen):
        frames = draw(source, START_FRAMES, dim, torch.Generator().manual_seed(seed))
    for each in bits:
        torch.manual_seed(seed)
        try:
            if registry.needs_features(name, chosen):
                asked = registry.fit_options(name, dim=dim, bits=each * dim, options=chosen, features=frames)
                quantizer = registry.create(name, dim=dim, **asked)
            else:
                quantizer = registry.create(name, dim=dim, bits=each * dim, **chosen)
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


def _channels(name: str, source: Source, dim: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `run` that decide how many channels or blocks the quantizer `name` has."""
    known = registry.entry(name).cls.fit_options
    if isinstance(source, Recorded) or source == "correlated":
        chosen = given.keys() & FITTED.keys() or "levels" in given
        if FITTED.keys() <= set(known) and not chosen:
            return dict(FITTED)
    if isinstance(source, Recorded):
        return {}
    if "blocks" in known:
        block = given.get("dimension", LearnedLatticeConfig.dimension)
        if name == "lattice":
            block = DIMENSIONS[given.get("lattice", LatticeConfig.lattice)]
        return {"blocks": max(1, round(dim / block))}
    return {"channels": dim} if "channels" in known else {}
