"""Space of a search: bottlenecks that spend the budget, within 2 %, and no others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from experiments.common.matched_rates import RATE_TOLERANCE
from experiments.studies.sections import SearchSpace
from quantizers import create, validate
from quantizers.geometry.grids import PlanarGrid
from quantizers.geometry.lattices import DIMENSIONS

if TYPE_CHECKING:
    from quantizers.methods.lattice import LatticeConfig

_STEP = 1 / 256  # bits; how finely sums of bits are told apart


class SearchError(ValueError):
    """A search that cannot be; the message says why and what to do."""


class Chooser(Protocol):
    """Source of choices: a trial of Optuna, whose every choice has a name."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number between `low` and `high`."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """Choose one of `choices`."""


@dataclass(frozen=True)
class Candidate:
    """A bottleneck of the space: its quantizer and options, and its nominal bits per frame."""

    quantizer: str
    options: dict[str, Any] = field(hash=False)
    label: str
    channels: int
    bits: float


@dataclass(frozen=True)
class Tiling:
    """A planar grid of `pairs` pairs of channels, each with levels of its own from `least` to `most`.

    The order of the pairs says nothing, nor, unless rows differ from columns (hex), that of a pair's levels.
    """

    grid: str
    pairs: int
    least: int
    most: int
    uneven: float
    window: tuple[float, float]  # bits per frame

    @property
    def name(self) -> str:
        return f"{self.grid} x{self.pairs}"

    @property
    def channels(self) -> int:
        return 2 * self.pairs

    @cached_property
    def shapes(self) -> list[tuple[float, tuple[int, int]]]:
        """Bits and levels of every pair that there may be, fewest bits first."""
        odd_x, odd_y = self.grid == "rhombic", self.grid in ("rhombic", "hex")
        share = sum(self.window) / 2 / self.pairs
        shapes = []
        for x in range(self.least, self.most + 1):
            for y in range(self.least if self.grid == "hex" else x, self.most + 1):
                if (odd_x and x % 2 == 0) or (odd_y and y % 2 == 0) or abs(math.log2(x / y)) > self.uneven:
                    continue
                bits = math.log2(PlanarGrid(self.grid, (x, y)).size)
                if abs(bits - share) <= self.uneven:
                    shapes.append((bits, (x, y)))
        return sorted(shapes)

    @cached_property
    def _sums(self) -> list[np.ndarray]:
        """For 0, 1, ... pairs, which sums of bits there are, in units of `_STEP`."""
        units = sorted({round(bits / _STEP) for bits, _ in self.shapes})
        top = math.ceil(self.window[1] / _STEP) + 1
        sums = [np.zeros(top + 1, dtype=bool)]
        sums[0][0] = True
        for _ in range(self.pairs):
            longer = np.zeros_like(sums[0])
            for unit in units:
                if unit <= top:
                    longer[unit:] |= sums[-1][: top + 1 - unit]
            sums.append(longer)
        return sums

    def _allowed(self, spent: float, left: int) -> list[tuple[float, tuple[int, int]]]:
        """The shapes of the next pair from which `left` further ones can still meet the budget."""
        low, high = self.window
        if left == 0:
            return [shape for shape in self.shapes if low <= spent + shape[0] <= high]
        slack = left * _STEP / 2  # of rounding, on the safe side
        reach = np.concatenate([[0], np.cumsum(self._sums[left])])
        allowed = []
        for bits, levels in self.shapes:
            first = math.ceil((low - spent - bits + slack) / _STEP)
            last = math.floor((high - spent - bits - slack) / _STEP)
            first, last = max(first, 0), min(last, len(reach) - 2)
            if last >= first and reach[last + 1] > reach[first]:
                allowed.append((bits, levels))
        return allowed

    @property
    def feasible(self) -> bool:
        """True if any levels meet the budget."""
        return bool(self._allowed(0.0, self.pairs - 1))

    @property
    def span(self) -> tuple[float, float]:
        """Fewest and most bits per frame that it can spend, whatever the budget. (inf, 0) without shapes."""
        bits = [bits for bits, _ in self.shapes]
        return self.pairs * min(bits, default=math.inf), self.pairs * max(bits, default=0.0)

    def choose(self, chooser: Chooser) -> tuple[tuple[int, ...], float]:
        """Levels that meet the budget, and their bits: pair after pair, from what the others leave."""
        spent, pairs = 0.0, []
        for place in range(self.pairs):
            allowed = self._allowed(spent, self.pairs - 1 - place)
            gene = chooser.suggest_float(f"pair {place}", 0.0, 1.0)
            bits, levels = allowed[min(int(gene * len(allowed)), len(allowed) - 1)]
            spent += bits
            pairs.append(levels)
        return tuple(level for pair in sorted(pairs, reverse=True) for level in pair), spent


@dataclass(frozen=True)
class Blocks:
    """A lattice beyond the plane, in `blocks` blocks whose counts are the nearest to the budget."""

    lattice: str
    blocks: int
    channels: int
    window: tuple[float, float]
    budget: float

    @property
    def name(self) -> str:
        return f"{self.lattice} x{self.blocks}"

    @cached_property
    def config(self) -> "LatticeConfig":
        config: Any = validate("lattice", {"lattice": self.lattice, "blocks": self.blocks}, self.budget)
        return config

    @cached_property
    def bits(self) -> float:
        """Bits a frame, of the live module."""
        options: dict[str, Any] = {"lattice": self.lattice, "counts": self.config.counts}
        return create("lattice", dim=self.channels, **options).bits_per_frame

    @property
    def feasible(self) -> bool:
        return self.window[0] <= self.bits <= self.window[1]

    @property
    def span(self) -> tuple[float, float]:
        return self.bits, self.bits


Family = Tiling | Blocks


class Space:
    """The feasible part of a study's search space at `bits` a frame. Raises SearchError where it is empty."""

    def __init__(self, section: SearchSpace, bits: float) -> None:
        self.section, self.bits = section, bits
        window = (bits * (1 - RATE_TOLERANCE), bits * (1 + RATE_TOLERANCE))
        every = self._families(window)
        self.families = {family.name: family for family in every if family.feasible}
        self.left_out = [self._why(family) for family in every if not family.feasible]
        if not self.families:
            why = "; ".join(self.left_out) or "no tiling or lattice fits the channels"
            raise SearchError(
                f"search.space has nothing within {RATE_TOLERANCE:.0%} of {bits:g} bits per frame: {why}. "
                "Remedy: widen search.space.levels, add channels, or change the bits"
            )

    def _families(self, window: tuple[float, float]) -> list[Family]:
        least, most = self.section.levels
        families: list[Family] = []
        for channels in self.section.channels:
            if channels % 2 == 0:
                families += [
                    Tiling(grid, channels // 2, least, most, self.section.uneven, window)
                    for grid in self.section.tilings
                ]
            for lattice in self.section.lattices:
                if lattice not in DIMENSIONS:
                    raise SearchError(
                        f"search.space.lattices: no lattice {lattice!r}; known: {', '.join(DIMENSIONS)}"
                    )
                blocks, rest = divmod(channels, DIMENSIONS[lattice])
                if not rest:
                    families.append(Blocks(lattice, blocks, channels, window, self.bits))
        return families

    def _why(self, family: Family) -> str:
        low, high = family.span
        if low > high:
            least, most = self.section.levels
            return (
                f"{family.name} has no levels from {least} to {most} that make a pair of "
                f"{self.bits * 2 / family.channels:.2f} ± {self.section.uneven:g} bits"
            )
        spent = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}, in steps that miss it"
        if not low <= self.bits <= high and low != high:
            spent = f"{low:.2f} to {high:.2f}"
        return f"{family.name} spends {spent} bits"

    def choose(self, chooser: Chooser) -> Candidate:
        """Make a candidate by the choices of `chooser`."""
        family = self.families[chooser.suggest_categorical("family", list(self.families))]
        spread = self._spread(chooser)
        wide = "" if spread == 1 else f" spread {spread:g}"
        if isinstance(family, Blocks):
            counts = list(family.config.counts)
            options = {"lattice": family.lattice, "counts": counts, "spread": spread}
            return Candidate("lattice", options, f"{family.name}{wide}", family.channels, family.bits)
        levels, bits = family.choose(chooser)
        reach = _one_of(chooser, "range", self.section.range)
        gradient = _one_of(chooser, "gradient", self.section.gradient)
        options = {"levels": list(levels), "range": reach, "gradient": gradient, "spread": spread}
        shape = " ".join(f"{x}x{y}" for x, y in zip(levels[::2], levels[1::2], strict=True))
        label = f"{family.grid} {shape} {reach} {gradient}{wide}"
        return Candidate(f"q2d2-{family.grid}", options, label, len(levels), bits)

    def _spread(self, chooser: Chooser) -> float:
        low, high = self.section.spread
        if low == high:
            return low
        return float(f"{chooser.suggest_float('spread', low, high, log=True):.3g}")


def _one_of(chooser: Chooser, name: str, choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else chooser.suggest_categorical(name, choices)
