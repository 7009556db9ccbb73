"""What the quantizers share that map features to a few channels, each with a number of levels."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quantizers.allocation import check_allocation, fit_levels, typical_errors
from quantizers.contract import Config, Quantizer
from quantizers.option_checks import QuantizerError, check_count, check_open
from quantizers.parts.components import Components, generator, least_squares, principal_components
from quantizers.parts.mixed_radix import MixedRadix
from quantizers.parts.predicted_errors import predicted_errors
from quantizers.parts.scales import best_scales
from quantizers.rates import choose_levels

SEARCHED = 4096  # frames on which scales are compared


@dataclass(frozen=True, kw_only=True)
class LevelsConfig(Config):
    """Options of quantizers with a number of levels per channel.

    levels: number of levels of each channel.
    """

    levels: tuple[int, ...] = (9, 9, 9, 9, 9, 9)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))

    def check_levels(self, minimum: int) -> None:
        """Raise QuantizerError unless there are levels, of at least `minimum` each."""
        if not self.levels:
            raise QuantizerError("levels must name at least one channel")
        for level in self.levels:
            check_count("each of levels", level, minimum)


class ChannelQuantizer(Quantizer):
    """Linear to channels; sub-codes of theirs, packed into as few streams as hold them; linear back."""

    fit_options: ClassVar[tuple[str, ...]] = ("channels", "allocation")
    blocks_at_once: ClassVar[int] = 16  # whose errors are predicted together
    copies: ClassVar[int] = 1  # of each of these, where they depend on each other

    config: Any
    packing: MixedRadix
    project_in: nn.Linear
    project_out: nn.Linear

    def lay_out(self, channels: int, sizes: Sequence[int]) -> None:
        """Create what is shared, for sub-codes of these sizes."""
        self.packing = MixedRadix(sizes)
        self.codebook_sizes = self.packing.stream_sizes
        self.project_in = nn.Linear(self.dim, channels)
        self.project_out = nn.Linear(channels, self.dim)

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        channels = cls.number_of_channels(options)
        levels = choose_levels(bits, cls.kind_of_levels(options), channels=channels)
        return {**cls.settled(options), "levels": levels}

    @classmethod
    def waits_for(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        waiting = {"channels": "fit", "allocation": "water-filling"}
        return tuple(name for name, value in waiting.items() if options.get(name) == value)

    @classmethod
    def fit_to(
        cls, bits: float, options: Mapping[str, Any], variances: Tensor, measured: bool = True
    ) -> dict[str, Any]:
        if not cls.waits_for(options):
            return cls.fit(bits, options)
        check_open("levels", options)
        rest, kind = cls.settled(options), cls.kind_of_levels(options)
        levels = fit_levels(
            variances,
            bits,
            kind,
            partial(predicted_errors, cls, rest) if measured else partial(typical_errors, kind),
            channels=options.get("channels"),
            allocation=options.get("allocation"),
            least=cls.least_levels(options),
        )
        return {**rest, "levels": levels}

    @classmethod
    def number_of_channels(cls, options: Mapping[str, Any]) -> int | None:
        """The number that `options` ask for; None leaves it to the rate. Raises QuantizerError where they fix
        the levels too, or wait for features."""
        check_open("levels", options)
        channels = options.get("channels")
        check_allocation(channels, options.get("allocation"))
        if waiting := cls.waits_for(options):
            raise QuantizerError(
                f"{' and '.join(f'{name}: {options[name]}' for name in waiting)} choose levels by features; "
                "call quantizers.fit_options with features, and create the quantizer with its result"
            )
        return None if channels == "paper" else channels

    @classmethod
    def settled(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """`options` without those that only choose levels."""
        return {name: value for name, value in options.items() if name not in cls.fit_options}

    @classmethod
    def least_levels(cls, options: Mapping[str, Any]) -> int | None:
        """Fewest levels of a channel under `options`; None is the least of the kind of levels."""
        return None

    @classmethod
    def kind_of_levels(cls, options: Mapping[str, Any]) -> str:
        """What `choose_levels` calls the levels that `options` ask for."""
        return "scalar"

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        return self.packing.factor_sizes

    def factors(self, codes: Tensor) -> Tensor:
        return self.packing.unpack(codes)

    def lookup(self, codes: Tensor) -> Tensor:
        return self.project_out(self.channel_values(codes))

    @abstractmethod
    def channel_values(self, codes: Tensor) -> Tensor:
        """Quantized channels [batch, frames, channels] of `codes`, as `project_out` takes them."""

    @property
    def steps(self) -> tuple[tuple[int, ...], ...]:
        """Steps along each channel, in blocks of the channels that share a cell."""
        return tuple((level,) for level in self.config.levels)

    @property
    def keeps_order(self) -> bool:
        """Whether the first blocks of channels are worth most, since the others can be left out."""
        return False

    @property
    def middle(self) -> Tensor | float:
        """What `project_in` gives in the middle of a channel's range, [channels] or one for all."""
        return 0.0

    def initialise(self, features: Tensor) -> None:
        """Principal components in, the least-squares way back out.

        Components fall in variance, and the first go where the most steps are: to blocks in the order of
        their numbers of cells, within a block to channels in the order of their steps. So it is neighbouring
        components that share a planar grid or a lattice. Every channel is brought to unit variance, which
        stretches a cell by the ratio of the deviations when it is seen in feature space. A hexagon is worth
        0.17 dB only while it stays one, and neighbours are the components whose deviations are most alike.
        Where blocks can be left out, the first components go to the first of them.

        The scale of each block is the one that leaves the least error on these features, see `scales`.
        """
        components = principal_components(features)
        rows, offsets, weights = self._assign(components)
        seen = features[:: -(-len(features) // SEARCHED)]
        targets = (seen.cpu().double() - components.mean) @ rows.mT

        def use(scales: Tensor) -> None:
            weight = rows * scales.unsqueeze(1)
            self.project_in.weight.copy_(weight)
            middle = self.middle.cpu().double() if isinstance(self.middle, Tensor) else self.middle
            self.project_in.bias.copy_(middle + offsets - weight @ components.mean)

        def read(scales: Tensor) -> Tensor:
            use(scales)
            self.try_out(seen)
            return self.values_of(seen)

        use(best_scales(read, targets, weights, len(self.steps[0])))
        self.refine(features)
        weight, bias = least_squares(self.values_of(features), features)
        self.project_out.weight.copy_(weight)
        self.project_out.bias.copy_(bias)

    def try_out(self, features: Tensor) -> None:
        """Set what lies between the linear maps, where it decides which scale is best, for a trial of one."""

    def refine(self, features: Tensor) -> None:
        """Set what lies between the linear maps by `features` [frames, dim], once `project_in` is set."""

    def values_of(self, features: Tensor) -> Tensor:
        """Quantized channels [frames, channels] of `features` [frames, dim]."""
        return self.channel_values(self.quantize(features.unsqueeze(0)).codes).squeeze(0)

    def _assign(self, components: Components) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [channels, dim] that give each channel a component of unit variance, offsets [channels] from
        the middle of its range, and the variances [channels] that the components have.

        Channels beyond the rank of the features carry the components once more, shifted by a part of a cell,
        so that two coarse values make a finer one. Where no component varies, rows are random.
        """
        blocks = self.steps
        firsts = [sum(map(len, blocks[:number])) for number in range(len(blocks))]
        ranked = list(range(len(blocks)))
        if not self.keeps_order:
            ranked.sort(key=lambda block: -math.prod(blocks[block]))
        order = [
            firsts[block] + channel
            for block in ranked
            for channel in sorted(range(len(blocks[block])), key=lambda channel: -blocks[block][channel])
        ]
        count, rank = len(order), components.rank
        weights = torch.zeros(count, dtype=torch.float64)
        offsets = torch.zeros(count, dtype=torch.float64)
        if not rank:
            rows = torch.rand(count, self.dim, generator=generator(), dtype=torch.float64) * 2 - 1
            return rows / math.sqrt(self.dim), offsets, weights
        carried = torch.arange(count) % rank
        again = torch.arange(count) // rank
        copies = (count - 1 - carried) // rank + 1
        steps = torch.tensor([step for block in blocks for step in block], dtype=torch.float64)[order]
        rows = torch.empty(count, self.dim, dtype=torch.float64)
        rows[order] = (components.directions / components.variances.sqrt()).mT[carried]
        weights[order] = components.variances[carried]
        offsets[order] = 2 / steps * again / copies
        return rows, offsets, weights
