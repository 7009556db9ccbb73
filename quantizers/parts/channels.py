"""What the quantizers share that map features to a few channels, each with a number of levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from quantizers.contract import Config, Quantizer
from quantizers.option_checks import QuantizerError, check_count, check_open
from quantizers.parts.mixed_radix import MixedRadix
from quantizers.rates import choose_levels


@dataclass(frozen=True, kw_only=True)
class LevelsConfig(Config):
    """levels: number of levels of each channel."""

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

    fit_options = ("channels",)

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
        check_open("levels", options)
        rest = {name: value for name, value in options.items() if name != "channels"}
        levels = choose_levels(bits, cls.kind_of_levels(options), channels=options.get("channels"))
        return {**rest, "levels": levels}

    @classmethod
    def kind_of_levels(cls, options: Mapping[str, Any]) -> str:
        """What `choose_levels` calls the levels that `options` ask for."""
        return "scalar"

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        return self.packing.factor_sizes

    def factors(self, codes: Tensor) -> Tensor:
        return self.packing.unpack(codes)
