"""Learned lattice: blocks of 2 to 8 channels, each snapped to the nearest point of one lattice with a learned
generator matrix.

The finite code is that of `lattice` with `bound: voronoi`: the points in the Voronoi cell enlarged by a
count. With Babai's rounding alone the cells would be parallelepipeds and the method would be fsq behind a
linear map; the nearest point (`geometry.learned_lattices`) makes cells that no linear map gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quantizers.contract import Config, Quantized
from quantizers.geometry.lattices import DIMENSIONS
from quantizers.geometry.learned_lattices import STARTS, LearnedLattice
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

MOST_DIMENSIONS = 8
MOST_JOINT = 4096  # codes of a block that are one factor


@dataclass(frozen=True, kw_only=True)
class LearnedLatticeConfig(Config):
    """Options of `learned-lattice`.

    dimension: channels per block, 2 to 8.
    counts: factor by which the cell of each block is enlarged.
    begin: lattice before training: `cubic`, or `A2`, `A3*`, `D4`, `E8` of that dimension.
    weight: weight of the mean squared granular error, in units of the volume of the cell, by which the
        generator is trained; 0 keeps the generator as it begins.
    spread: factor on the range of tanh. Above 1 the outer cells hold more values, below 1 fewer.
    activation: `tanh`, or `sigmoid` as in iFSQ (arXiv 2601.17124), see `parts.activations`.
    dropout: fraction of the clips of a training batch that are decoded from a random number of first blocks.
    """

    dimension: int = 2
    counts: tuple[int, ...] = (9, 9, 9)
    begin: str = "cubic"
    weight: float = 1.0
    spread: float = 1.0
    activation: str = "tanh"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", tuple(self.counts))
        check_dimension(self.dimension)
        check_choice("begin", self.begin, STARTS)
        if self.begin != "cubic" and DIMENSIONS[self.begin] != self.dimension:
            raise QuantizerError(
                f"begin {self.begin} has {DIMENSIONS[self.begin]} dimensions and dimension is "
                f"{self.dimension}; make them equal, or begin: cubic"
            )
        if not self.counts:
            raise QuantizerError("counts must name at least one block")
        for count in self.counts:
            check_count("each of counts", count, minimum=2)
        check_weight("weight", self.weight)
        check_spread(self.spread)
        check_choice("activation", self.activation, tuple(SLOPES))
        check_weight("dropout", self.dropout, maximum=1.0)

    @property
    def joint(self) -> bool:
        """Whether all points of a block are one factor, so that an entropy coder sees them together."""
        return max(self.counts) ** self.dimension <= MOST_JOINT


def check_dimension(dimension: object) -> None:
    """Raise QuantizerError unless blocks of so many channels can be searched."""
    check_count("dimension", dimension, minimum=2)
    if isinstance(dimension, int) and dimension > MOST_DIMENSIONS:
        raise QuantizerError(
            f"dimension {dimension} is beyond {MOST_DIMENSIONS}: the search tries 3^dimension neighbours; "
            "use smaller blocks"
        )


class LearnedLatticeQuantizer(DroppedChannels, ChannelQuantizer):
    """Linear to blocks of channels, tanh, scale, nearest point of the learned lattice in each block, linear
    back.

    The determinant of the generator is held at 1, so its shape is learned and the linear maps hold the scale.
    Gradient: straight-through to the input. The generator learns by the granular error: the squared distance
    of each block to its nearest lattice point, see `LearnedLattice.second_moment`.
    """

    config_class = LearnedLatticeConfig
    family = "lattice"
    learned = True
    paper = "Agrell and Allen 2023"
    fit_options = ("blocks",)
    stage_name = "blocks"
    exports = False  # the code branches on tensor values
    config: LearnedLatticeConfig

    scale: Tensor
    centre: Tensor
    counts: Tensor
    powers: Tensor

    def __init__(self, dim: int, config: LearnedLatticeConfig) -> None:
        super().__init__(dim, config)
        n = config.dimension
        self.lattice = LearnedLattice(n, config.begin)
        scale = torch.tensor(config.counts, dtype=torch.float64).repeat_interleave(n) / 2 * config.spread
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("centre", off_centre(n, 1.0), persistent=False)
        counts = torch.tensor(config.counts).unsqueeze(1)  # [blocks, 1]
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("powers", counts ** torch.arange(n), persistent=False)
        for number, count in enumerate(dict.fromkeys(config.counts)):
            places = [place for place, other in enumerate(config.counts) if other == count]
            self.register_buffer(f"places_{number}", torch.tensor(places), persistent=False)
        sizes = [count**n for count in config.counts]
        if not config.joint:
            sizes = [count for count in config.counts for _ in range(n)]
        self.lay_out(len(scale), sizes)

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_bits(bits)
        check_open("counts", options)
        rest = {name: value for name, value in options.items() if name != "blocks"}
        n = rest.get("dimension", LearnedLatticeConfig.dimension)
        check_dimension(n)
        blocks = options.get("blocks", max(1, round(bits / (BITS_PER_CHANNEL * n))))
        check_count("blocks", blocks)
        check_limits({"channels": blocks * n})
        return {**rest, "counts": choose_enlargements(n, bits, blocks)}

    @classmethod
    def stages_of(cls, config: LearnedLatticeConfig) -> int:
        return len(config.counts)

    @classmethod
    def first_of(cls, config: LearnedLatticeConfig, stages: int) -> LearnedLatticeConfig:
        return replace(config, counts=config.counts[:stages])

    def cut(self, stages: int) -> LearnedLatticeQuantizer:
        part = super().cut(stages)
        assert isinstance(part, LearnedLatticeQuantizer)
        part.lattice = self.lattice
        return part

    @property
    def steps(self) -> tuple[tuple[int, ...], ...]:
        return tuple((count,) * self.config.dimension for count in self.config.counts)

    @property
    def channel_ranges(self) -> ChannelRanges:
        """Of a cube of the enlarged cell's volume, which has as many steps along each axis."""
        levels = [step for block in self.steps for step in block]
        return ranges(levels, [1.0] * len(levels), self.scale.tolist())

    def quantize(self, features: Tensor) -> Quantized:
        unit = bounded(self.project_in(features), self.config.activation)
        coordinates = (unit * self.scale).detach()
        blocks = coordinates.unflatten(-1, (-1, self.config.dimension))
        with torch.no_grad():
            found = torch.empty(blocks.shape, dtype=torch.int64, device=blocks.device)
            for places, code in self._codes():
                found[..., places, :] = code.encode(blocks[..., places, :])
            factors = self._joined(found)
            value = self._value(factors)
        loss = zero_loss(features)
        if self.training and self.config.weight and features.numel():
            loss = loss + self.config.weight * self.lattice.second_moment(blocks.flatten(0, -2)).float()
        diagnostics = {} if self.training else {"coordinates": coordinates}
        out = self.project_out(self.without_dropped(straight_through(value, unit)))
        return Quantized(out, self.packing.pack(factors), loss, diagnostics)

    def channel_values(self, codes: Tensor) -> Tensor:
        with torch.no_grad():
            return self._value(self.packing.unpack(codes))

    def surrogate(self, features: Tensor) -> Tensor | None:
        if self.drops:
            return None
        return self.project_out(bounded(self.project_in(features), self.config.activation))

    @classmethod
    def estimates_rate(cls, config: LearnedLatticeConfig) -> bool:
        return config.joint  # coordinates along a skewed basis, coded apart, cost more than the estimate

    def cells(self, features: Tensor) -> Cells:
        positions = bounded(self.project_in(features), self.config.activation) * self.scale
        most = math.ceil(max(self.config.counts) * self.config.spread) + 3
        return Cells(positions, torch.ceil(-self.scale - 0.5), torch.floor(self.scale + 0.5), most)

    def _codes(self) -> list[tuple[Tensor, VoronoiCode]]:
        """The code of each count, and the blocks that have it: blocks of one code are searched together."""
        basis = self.lattice.basis.detach()

        def nearest(points: Tensor) -> Tensor:
            return self.lattice.nearest(points, basis)

        return [
            (self.get_buffer(f"places_{number}"), VoronoiCode(count, basis, nearest, self.centre))
            for number, count in enumerate(dict.fromkeys(self.config.counts))
        ]

    def _joined(self, coordinates: Tensor) -> Tensor:
        """Factors [..., factors] of coordinates [..., blocks, n]."""
        return (coordinates * self.powers).sum(-1) if self.config.joint else coordinates.flatten(-2)

    def _apart(self, factors: Tensor) -> Tensor:
        """Coordinates [..., blocks, n] of factors [..., factors]."""
        if not self.config.joint:
            return factors.unflatten(-1, (-1, self.config.dimension))
        return factors.unsqueeze(-1) // self.powers % self.counts

    def _value(self, factors: Tensor) -> Tensor:
        """Channels of `factors`, over their scale."""
        coordinates = self._apart(factors)
        points = torch.empty(coordinates.shape, device=factors.device)
        for places, code in self._codes():
            points[..., places, :] = code.decode(coordinates[..., places, :]).float()
        return points.flatten(-2) / self.scale
