"""How good a lattice, a trellis or a planar grid is: measured by Monte Carlo, beside what theory says.

Normalised second moment G = E|e|^2 / (n V^(2/n)) of a point uniform in a cell (Conway and Sloane, SPLAG,
chapter 21): the mean squared error of a dimension at one point a unit volume. Packing density: balls of
the packing radius. Thickness: balls of the covering radius. Kissing number and shortest vectors are exact,
from the theta series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from quantizers.geometry.grids import PairedGrids, PlanarGrid
from quantizers.geometry.lattices import lattice
from quantizers.geometry.trellises import SUBSETS, Trellis
from quantizers.rates import choose_levels

EXACT = {  # normalised second moments; SPLAG table 2.3, and for Leech Conway and Sloane 1982
    "Z": 1 / 12,
    "A2": 5 / (36 * math.sqrt(3)),
    "A3*": 19 / (192 * 2 ** (1 / 3)),
    "D4": 13 / (120 * math.sqrt(2)),
    "E8": 929 / 12960,
    "Leech": 0.065771,
    "released-hex": 31 / 384,
    "rhombic": 1 / 12,
}
# Second moments of trellises by number of states, measured by `measure_trellis` with 4 * 10^6 values,
# standard error 2e-5 and less. Granular gains: 0.998 dB at 4 states, 1.085 at 8, 1.335 at 256; published
# (Marcellin and Fischer 1990): 0.99, 1.09, 1.33.
TRELLIS = {
    4: 0.066218,
    8: 0.064911,
    16: 0.063996,
    32: 0.063059,
    64: 0.062388,
    128: 0.061739,
    256: 0.061283,
}
GRIDS = (("rect", "ideal"), ("hex", "ideal"), ("hex", "released"), ("rhombic", "ideal"))
SOURCES = ("uniform", "tanh-gaussian")
_BLOCK = 2**14


@dataclass(frozen=True)
class LatticeFigures:
    """Figures of one infinite lattice; `second_moment` is measured with the standard error `error`."""

    name: str
    dimension: int
    second_moment: float
    error: float
    exact: float
    gain: float  # dB against Z, from the exact value
    covering_radius: float  # in units of the edge of a cube of one cell's volume
    thickness: float
    packing_density: float
    kissing_number: int


@dataclass(frozen=True)
class TrellisFigures:
    """Figures of one trellis; `gain` in dB over Z is measured with the standard error `error`."""

    states: int
    second_moment: float
    gain: float
    error: float


@dataclass(frozen=True)
class GridFigures:
    """Mean squared error per dimension of a finite planar grid on a source within [-1, 1]^2.

    `cell`, `edge`: the grid scaled as the options `range` of Q2D2 scale it; `best`: at the scale that is
    best for it.
    """

    kind: str
    spacing: str
    levels: tuple[int, int]
    points: int
    source: str
    cell: float
    edge: float
    best: float
    error: float  # standard error of `best`
    scale: float  # the best scale, over that of `cell`


def measure_lattice(name: str, samples: int = 100_000, seed: int = 0) -> LatticeFigures:
    """Figures of the lattice `name` from `samples` points uniform in a cell."""
    shape = lattice(name)
    n = shape.dimension
    generator = torch.Generator().manual_seed(seed)
    total, squares, count, farthest = 0.0, 0.0, 0, 0.0
    for start in range(0, samples, _BLOCK):
        size = min(_BLOCK, samples - start)
        points = torch.rand(size, n, generator=generator, dtype=torch.float64) * shape.period
        distance = (points - shape.nearest(points)).square().sum(-1)
        moment = distance / (n * shape.volume ** (2 / n))
        total, squares, count = (
            total + moment.sum().item(),
            squares + moment.square().sum().item(),
            count + size,
        )
        farthest = max(farthest, distance.max().sqrt().item())
    mean = total / count
    covering = max(farthest, (shape.deep_hole - shape.nearest(shape.deep_hole)).norm().item())
    norm, kissing = shape.shell
    ball = math.pi ** (n / 2) / math.gamma(n / 2 + 1)
    return LatticeFigures(
        name,
        n,
        mean,
        math.sqrt(max(squares / count - mean**2, 0.0) / count),
        EXACT[name],
        10 * math.log10((1 / 12) / EXACT[name]),
        covering / shape.volume ** (1 / n),
        ball * covering**n / shape.volume,
        ball * (math.sqrt(norm) / 2) ** n / shape.volume,
        kissing,
    )


def measure_trellis(states: int, values: int = 200_000, seed: int = 0) -> TrellisFigures:
    """Figures of the trellis of `states` states on long paths, from `values` values uniform in a period.

    A level every step, four subsets in turn, so one level every two steps for each bit of the path: the
    second moment is the squared error over the square of those.
    """
    steps, ends = 800, 100  # the ends of a path, where it has less choice, are not counted
    rows = max(2, values // (steps - 2 * ends))
    generator = torch.Generator().manual_seed(seed)
    points = SUBSETS * torch.rand(steps, 1, rows, generator=generator)
    away = points - torch.arange(SUBSETS).view(1, -1, 1)
    costs = (away - SUBSETS * torch.round(away / SUBSETS)).square()
    trellis = Trellis(states)
    labels = trellis.subsets(trellis.search(costs).mT).mT.unsqueeze(1)
    errors = costs.gather(1, labels)[ends:-ends, 0].double().mean(0) / 4  # of each path
    mean, deviation = errors.mean().item(), errors.std().item() / math.sqrt(rows)
    gain = 10 * math.log10((1 / 12) / mean)
    return TrellisFigures(states, mean, gain, 10 / math.log(10) * deviation / mean)


def measure_grid(
    kind: str, spacing: str, bits: float, source: str, samples: int = 200_000, seed: int = 0
) -> GridFigures:
    """Figures of the planar grid of `kind` nearest `bits` on `source` (`uniform` or `tanh-gaussian`)."""
    levels = choose_levels(bits, "square" if spacing == "released" else kind, channels=2)
    grid = PlanarGrid(kind, (levels[0], levels[1]), spacing)
    points = sample(source, samples, seed)
    pitch = torch.tensor(grid.pitch)
    cell = torch.tensor(grid.levels) / 2 * pitch
    paired = PairedGrids([grid])

    def errors(half: Tensor) -> Tensor:
        return ((points - paired.nearest((points * half).unsqueeze(1))[0].squeeze(1) / half) ** 2).mean(-1)

    # The scale is one number; a coarse then a fine search, on the same points.
    scales = torch.linspace(0.8, 1.3, 11).tolist()
    for step in (0.0125, 0.003):
        middle = min(scales, key=lambda scale: errors(cell * scale).mean().item())
        scales = [middle + step * i for i in range(-3, 4)]
    best = min(scales, key=lambda scale: errors(cell * scale).mean().item())
    at_best = errors(cell * best)
    return GridFigures(
        kind,
        spacing,
        grid.levels,
        grid.size,
        source,
        errors(cell).mean().item(),
        errors(torch.tensor(grid.extent)).mean().item(),
        at_best.mean().item(),
        (at_best.std() / math.sqrt(samples)).item(),
        best,
    )


def sample(source: str, samples: int, seed: int = 0) -> Tensor:
    """Points [samples, 2] of `uniform` on [-1, 1]^2, or of tanh of a standard Gaussian."""
    generator = torch.Generator().manual_seed(seed)
    if source == "uniform":
        return torch.rand(samples, 2, generator=generator) * 2 - 1
    return torch.tanh(torch.randn(samples, 2, generator=generator))
