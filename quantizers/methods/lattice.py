"""Lattice quantization: blocks of 1 to 24 channels, each snapped to the nearest point of a piece of a
lattice.

The paper on Q2D2 leaves more than two dimensions to future work; this is that work. Three ways of cutting
out a finite piece: `cube`, `counts` steps along each axis (Conway and Sloane, SPLAG, chapter 20), exactly
nearest within the piece; `voronoi`, the points in the Voronoi cell enlarged `counts` times, one count
a block, which are encoded and decoded by their integer coordinates modulo the count, without a table
(Conway and Sloane, "A fast encoding method for lattice codes and quantizers", IEEE Trans. IT 29, 1983);
and `shell`, the minimal vectors, for blocks that are normalised to the sphere (Zhao et al. 2025, "Spherical
Leech quantization for visual tokenization and generation", arXiv 2512.14697).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantizers.contract import Config, Quantized
from quantizers.geometry.lattices import DIMENSIONS, NAMES, Cosets, lattice
from quantizers.geometry.shells import NAMES as SHELLS
from quantizers.geometry.shells import SIZES, Shell
from quantizers.geometry.voronoi_codes import VoronoiCode, off_centre
from quantizers.option_checks import (
    QuantizerError,
    check_choice,
    check_count,
    check_limits,
    check_open,
    check_spread,
    check_weight,
)
from quantizers.parts.activations import SLOPES, bounded
from quantizers.parts.channels import ChannelQuantizer
from quantizers.parts.stage_dropout import DroppedChannels
from quantizers.parts.straight_through import straight_through, zero_loss
from quantizers.rate_estimate import Cells
from quantizers.rates import BITS_PER_CHANNEL, check_bits, choose_enlargements
from quantizers.saturation import ChannelRanges, ranges

BOUNDS = ("cube", "voronoi", "shell")


@dataclass(frozen=True, kw_only=True)
class LatticeConfig(Config):
    """Options of `lattice`.

    lattice: `Z`, `A2`, `A3*` (body-centred cubic), `D4`, `E8` or `Leech`.
    bound: shape of the piece of the lattice that is used: `cube`, `voronoi` or `shell`.
    counts: size of the piece. With `cube`: steps along each channel. With `voronoi`: factor by which the cell
        of each block is enlarged. With `shell`: 1 for each block, the first shell.
    spread: factor on the range of tanh. Above 1 the outer cells hold more values, below 1 fewer.
    activation: `tanh`, or `sigmoid` as in iFSQ (arXiv 2601.17124), see `parts.activations`.
    gradient: `unit` is straight-through. `noise` is the same, but training adds noise that is uniform in the
        Voronoi cell instead of quantizing (Zamir and Feder 1996, On lattice quantization noise).
    dropout: share of the clips of a training batch that are decoded from a random number of first blocks,
        so that every number of them can be decoded (see `parts.stage_dropout`).
    """

    added = ("activation", "gradient", "dropout")

    lattice: str = "E8"
    bound: str = "cube"
    counts: tuple[int, ...] = (6, 6, 6, 6, 6, 6, 6, 6)
    spread: float = 1.0
    activation: str = "tanh"
    gradient: str = "unit"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", tuple(self.counts))
        check_choice("lattice", self.lattice, NAMES)
        check_choice("bound", self.bound, BOUNDS)
        check_spread(self.spread)
        check_choice("activation", self.activation, tuple(SLOPES))
        check_choice("gradient", self.gradient, ("unit", "noise"))
        check_weight("dropout", self.dropout, maximum=1.0)
        for count in self.counts:
            check_count("each of counts", count, minimum=2 if self.bound == "voronoi" else 1)
        size = DIMENSIONS[self.lattice] if self.bound == "cube" else 1
        if not self.counts or len(self.counts) % size:
            raise QuantizerError(
                f"{self.lattice} with bound {self.bound} takes {size} counts per block, so a multiple of "
                f"{size} in all, not {len(self.counts)}"
            )
        if self.bound == "cube" and lattice(self.lattice).parities is not None:
            for count in self.counts[size - 1 :: size]:
                if count % 2:
                    raise QuantizerError(
                        f"the last count of each block of {self.lattice} must be even, since the parity of "
                        f"its points halves it; {count} is not: use {count + 1}"
                    )
        if self.bound == "shell":
            check_shell(self.lattice)
            if any(count != 1 for count in self.counts):
                raise QuantizerError(
                    f"with bound shell each entry of counts must be 1, one per block: {[1] * 3} for three "
                    f"blocks, not {list(self.counts)}"
                )
            for name, value in (("spread", 1.0), ("activation", "tanh"), ("gradient", "unit")):
                if getattr(self, name) != value:
                    raise QuantizerError(f"{name} has no effect with bound shell; leave it out")

    @property
    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """The counts of each block."""
        size = DIMENSIONS[self.lattice] if self.bound == "cube" else 1
        return tuple(self.counts[i : i + size] for i in range(0, len(self.counts), size))


def check_shell(name: str) -> None:
    """Raise QuantizerError unless the minimal vectors of the lattice `name` are a code here."""
    if name not in SHELLS:
        raise QuantizerError(f"bound shell needs lattice {', '.join(SHELLS)}, not {name}")


class LatticeQuantizer(DroppedChannels, ChannelQuantizer):
    """A linear map to blocks of channels, tanh, scaling, the nearest lattice points, a linear map back.

    As in Q2D2 with range `cell` and gradient `unit`, tanh spans the piece of the lattice including the cells
    of its outer points, and the output is the quantized tanh value. With bound `shell` each block is divided
    by its norm instead of tanh, and the output is the minimal vector, of norm 1, with the largest inner
    product.
    """

    config_class = LatticeConfig
    family = "lattice"
    paper = "Conway and Sloane 1982, 1983"
    fit_options = ("blocks",)
    stage_name = "blocks"
    config: LatticeConfig

    scale: Tensor

    def __init__(self, dim: int, config: LatticeConfig) -> None:
        super().__init__(dim, config)
        kind = {"cube": CubeBlock, "voronoi": VoronoiBlock, "shell": ShellBlock}[config.bound]
        self.blocks = nn.ModuleList(kind(config.lattice, counts) for counts in config.blocks)
        self.block_dim = DIMENSIONS[config.lattice]
        self.noise = CellNoise(config.lattice) if config.gradient == "noise" else None
        sizes = [size for block in self._blocks for size in block.sizes]
        scale = torch.cat([block.half_width for block in self._blocks]) * config.spread
        self.register_buffer("scale", scale.float(), persistent=False)
        edge = lattice(config.lattice).volume ** (1 / self.block_dim)
        self.most_cells = math.ceil(2 * float(scale.max()) / edge) + 3
        self.lay_out(len(scale), sizes)
        self.exports = config.bound != "voronoi"  # that one branches on tensor values

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_bits(bits)
        check_open("counts", options)
        rest = {name: value for name, value in options.items() if name != "blocks"}
        name, bound = rest.get("lattice", LatticeConfig.lattice), rest.get("bound", LatticeConfig.bound)
        check_choice("lattice", name, NAMES)
        check_choice("bound", bound, BOUNDS)
        if bound == "shell":
            check_shell(name)
            least = math.log2(SIZES[name])
        else:
            least = BITS_PER_CHANNEL * DIMENSIONS[name]
        blocks = options.get("blocks", max(1, round(bits / least)))
        check_count("blocks", blocks)
        check_limits({"channels": blocks * DIMENSIONS[name]})
        if bound == "shell":
            return {**rest, "counts": (1,) * blocks}
        if bound == "voronoi":
            return {**rest, "counts": choose_enlargements(DIMENSIONS[name], bits, blocks)}
        return {**rest, "counts": _choose_cube(name, bits, blocks)}

    @classmethod
    def stages_of(cls, config: LatticeConfig) -> int:
        return len(config.blocks)

    @classmethod
    def first_of(cls, config: LatticeConfig, stages: int) -> LatticeConfig:
        return replace(config, counts=sum(config.blocks[:stages], ()))

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        return tuple(size for size in self.packing.factor_sizes if size > 1)

    @property
    def _blocks(self) -> list[Any]:
        return list(self.blocks)

    @property
    def channel_ranges(self) -> ChannelRanges:
        """`voronoi`: of a cube of the enlarged cell's volume, which has as many steps along each axis."""
        levels = [step for block in self.steps for step in block]
        halves = (self.scale / self.config.spread).tolist()
        steps = [2 * half / level for half, level in zip(halves, levels, strict=True)]
        return ranges(levels, steps, self.scale.tolist())

    def quantize(self, features: Tensor) -> Quantized:
        unit = self._bounded(self.project_in(features))
        with torch.no_grad():
            coordinates = unit * self.scale
            parts = coordinates.split(self.block_dim, dim=-1)
            factors = torch.cat(
                [block.encode(part) for block, part in zip(self._blocks, parts, strict=True)], -1
            )
            value = self._value(factors)
            if self.noise is not None and self.training:
                value = unit + self.noise(coordinates) / self.scale
        diagnostics = {} if self.training else {"coordinates": coordinates}
        out = self.project_out(self.without_dropped(straight_through(value, unit)))
        return Quantized(out, self.packing.pack(factors), zero_loss(features), diagnostics)

    def channel_values(self, codes: Tensor) -> Tensor:
        return self._value(self.packing.unpack(codes))

    @property
    def steps(self) -> tuple[tuple[int, ...], ...]:
        if self.config.bound == "shell":  # every channel of a block has values on both sides
            return ((2,) * self.block_dim,) * len(self.config.blocks)
        repeat = self.block_dim if self.config.bound == "voronoi" else 1
        return tuple(counts * repeat for counts in self.config.blocks)

    def factors(self, codes: Tensor) -> Tensor:
        kept = [i for i, size in enumerate(self.packing.factor_sizes) if size > 1]
        return self.packing.unpack(codes)[..., kept]

    def surrogate(self, features: Tensor) -> Tensor | None:
        if self.drops:
            return None
        return self.project_out(self._bounded(self.project_in(features)))

    @classmethod
    def estimates_rate(cls, config: LatticeConfig) -> bool:
        return (
            config.bound == "cube"
        )  # coordinates of `voronoi` are along a skewed basis, so coded apart they cost more

    def cells(self, features: Tensor) -> Cells:
        """In units of the edge of a cube of a cell's volume. The sum over a block is then the entropy of the
        lattice points where the density hardly varies within a cell, and above it elsewhere."""
        edge = lattice(self.config.lattice).volume ** (1 / self.block_dim)
        reach = self.scale / edge
        positions = self._bounded(self.project_in(features)) * reach
        return Cells(positions, torch.ceil(-reach - 0.5), torch.floor(reach + 0.5), self.most_cells)

    def _bounded(self, low: Tensor) -> Tensor:
        if self.config.bound != "shell":
            return bounded(low, self.config.activation)
        return F.normalize(low.unflatten(-1, (-1, self.block_dim)), dim=-1).flatten(-2)

    def _value(self, factors: Tensor) -> Tensor:
        parts = factors.split([len(block.sizes) for block in self._blocks], dim=-1)
        points = [block.decode(part) for block, part in zip(self._blocks, parts, strict=True)]
        return torch.cat(points, -1) / self.scale


class CubeBlock(nn.Module):
    """Points of a lattice in a box centred on the origin; factors: the coset, then k of each axis."""

    cosets: Cosets

    def __init__(self, name: str, counts: tuple[int, ...]) -> None:
        super().__init__()
        self.cosets = Cosets(lattice(name), counts).float()
        self.half_width = torch.tensor(counts, dtype=torch.float64) * lattice(name).steps / 2
        self.checkerboard = self.cosets.checkerboard
        last = counts[-1] // 2 if self.checkerboard else counts[-1]
        self.sizes = (len(lattice(name).offsets), *counts[:-1], last)

    def encode(self, points: Tensor) -> Tensor:
        """Factors [..., 1 + n] of the nearest point to `points` [..., n]."""
        _, coset, k = self.cosets.nearest(points)
        if self.checkerboard:  # the parity of the last k follows from the others
            k = torch.cat((k[..., :-1], k[..., -1:] // 2), -1)
        return torch.cat((coset.unsqueeze(-1), k), -1)

    def decode(self, factors: Tensor) -> Tensor:
        """Points [..., n] of `factors`."""
        coset, k = factors[..., 0], factors[..., 1:]
        if self.checkerboard:
            odd = (self.cosets.parities[coset] - k[..., :-1].sum(-1)) % 2
            k = torch.cat((k[..., :-1], 2 * k[..., -1:] + odd.unsqueeze(-1)), -1)
        return self.cosets.point(coset, k)


class VoronoiBlock(nn.Module):
    """Points of a lattice in its Voronoi cell enlarged `count` times; factors: integer coordinates modulo
    the count, see `geometry.voronoi_codes`."""

    basis: Tensor
    centre: Tensor
    cosets: Cosets

    def __init__(self, name: str, counts: tuple[int, ...]) -> None:
        super().__init__()
        self.count = counts[0]
        self.cosets = Cosets(lattice(name))
        n, edge = DIMENSIONS[name], lattice(name).volume ** (1 / DIMENSIONS[name])
        self.sizes = (self.count,) * n
        # A cube of the volume of the enlarged cell.
        self.half_width = torch.full((n,), self.count * edge / 2, dtype=torch.float64)
        self.register_buffer("basis", lattice(name).basis, persistent=False)
        self.register_buffer("centre", off_centre(n, edge), persistent=False)

    def encode(self, points: Tensor) -> Tensor:
        """Factors [..., n] of the code point for `points` [..., n]."""
        return self._code().encode(points)

    def decode(self, factors: Tensor) -> Tensor:
        """Points [..., n] float32 of `factors`."""
        return self._code().decode(factors).float()

    def _code(self) -> VoronoiCode:
        return VoronoiCode(self.count, self.basis, self._nearest, self.centre, triangular=True)

    def _nearest(self, points: Tensor) -> Tensor:
        return self.cosets.nearest(points)[0]


class CellNoise(nn.Module):
    """Noise that is uniform in the Voronoi cell of a lattice."""

    basis: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.cosets = Cosets(lattice(name)).float()
        self.register_buffer("basis", lattice(name).basis.float(), persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        """Noise like `points` [..., channels], independent in each block of channels."""
        # What quantization leaves of points that are uniform in one period of the lattice.
        period = torch.rand_like(points).unflatten(-1, (-1, len(self.basis))) @ self.basis
        return (period - self.cosets.nearest(period)[0]).flatten(-2)


class ShellBlock(nn.Module):
    """Minimal vectors of a lattice; factors: the index of the one nearest in angle."""

    def __init__(self, name: str, counts: tuple[int, ...]) -> None:
        super().__init__()
        self.shell = Shell(name)
        self.sizes = (self.shell.size,) * len(counts)
        self.half_width = torch.full((DIMENSIONS[name],), self.shell.radius, dtype=torch.float64)

    def encode(self, points: Tensor) -> Tensor:
        """Factors [..., 1] of the vector nearest in angle to `points` [..., n]."""
        return self.shell.nearest(points).unsqueeze(-1)

    def decode(self, factors: Tensor) -> Tensor:
        """Vectors [..., n] of `factors`."""
        return self.shell.point(factors[..., 0])


def _choose_cube(name: str, bits: float, blocks: int) -> tuple[int, ...]:
    """Counts as equal as the target allows; the last of each block even where parity halves it."""
    n, chosen = DIMENSIONS[name], lattice(name)
    halves = chosen.parities is not None
    fixed = blocks * (math.log2(len(chosen.offsets)) - halves)
    best: tuple[float, list[int]] | None = None
    most = max(2, math.ceil(2 ** max(0.0, (bits - fixed) / (n * blocks))))
    for low in range(max(1, most - 2), most + 1):
        for ups in range(n * blocks + 1):
            # Channels with one step more are spread over the blocks.
            counts = [[low] * n for _ in range(blocks)]
            for up in range(ups):
                counts[up % blocks][up // blocks] += 1
            if halves:
                for block in counts:
                    block[-1] = max(2, block[-1] - block[-1] % 2)
            flat = [count for block in counts for count in block]
            error = abs(fixed + math.fsum(math.log2(count) for count in flat) - bits)
            if best is None or error < best[0] - 1e-9:
                best = error, flat
    assert best is not None
    return tuple(best[1])
