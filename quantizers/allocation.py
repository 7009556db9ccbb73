"""Levels that fit the features: how many channels a rate is spread over, and how many levels each has.

A channel that carries a component of variance v and has levels that leave a share e of it costs v e; a
component that no channel carries costs v. Both choices minimise the sum, the squared error of a frame:

- `channels: fit`, one number of levels for all channels (two neighbouring ones where the rate asks for it):
  more channels carry more components, each more coarsely.
- `allocation: water-filling`, levels by the variances. For a Gaussian source and ideal coding the bits of a
  component are max(0, log2(v / D) / 2), D the same for all that have some (Cover and Thomas, theorem 10.3.3).
  Here the blocks are finite and e is what the quantizer's own cells leave, so it is a knapsack problem: which
  block gets which shape, for the least error within the rate. It is solved by dynamic programming over the
  bits (Bellman 1957), to 1/5000 of the rate.

Blocks are what shares a cell: one channel, or the pair of a planar grid, which neighbouring components share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quantizers.option_checks import QuantizerError, check_choice, check_count
from quantizers.rates import (
    MOST_BITS,
    TOLERANCE,
    bits_of,
    candidate_levels,
    check_bits,
    choose_channels,
    choose_levels,
    width_of,
)

ALLOCATIONS = ("even", "water-filling")
CHANNELS = ("paper", "fit")
WORST = 0.02  # most that a rate may be off
_UNITS = 5000  # of the rate, in the knapsack

Levels = tuple[int, ...]
Errors = Callable[[Sequence[Levels]], Sequence[tuple[float, ...]]]


@dataclass(frozen=True)
class Shape:
    """A block: its levels, its bits, and the share of its variance that it leaves in each channel."""

    levels: Levels
    bits: float
    errors: tuple[float, ...]


def check_allocation(channels: object, allocation: object) -> None:
    """Raise QuantizerError unless `channels` is None, a number, `paper` or `fit`, and `allocation` None,
    `even` or `water-filling`."""
    if isinstance(channels, str):
        check_choice("channels", channels, CHANNELS)
    elif channels is not None:
        check_count("channels", channels)
    if allocation is not None:
        check_choice("allocation", allocation, ALLOCATIONS)


def fit_levels(
    variances: Tensor,
    bits: float,
    kind: str,
    errors: Errors,
    *,
    channels: int | str | None = None,
    allocation: str | None = None,
    least: int | None = None,
) -> Levels:
    """Levels of the channels for about `bits`, given the variances of the components that they will carry.

    variances: [dim], falling. kind: as in `choose_levels`. errors: what shares of a unit variance blocks of
    given levels leave. channels: their number; `paper`, or None with an allocation, about 3.2 bits each;
    `fit`, whatever leaves least. allocation: `even` or `water-filling`. least: fewest levels of a channel
    under water-filling, if it is not that of the kind.

    Raises QuantizerError where no levels come within 2 % of the rate.
    """
    check_bits(bits)
    check_allocation(channels, allocation)
    width = width_of(kind)
    number = choose_channels(bits) if channels in (None, "paper") else channels
    if allocation != "water-filling":
        if number != "fit":
            assert not isinstance(number, str)
            return choose_levels(bits, kind, channels=number)
        return _even(variances, bits, kind, errors)
    if not isinstance(number, str) and number is not None and number % width:
        raise QuantizerError(
            f"channels must be even, since a planar grid takes them in pairs; {number} is not"
        )
    blocks = _in_blocks(variances, width)
    exactly = None if isinstance(number, str) or number is None else number // width
    levels = candidate_levels(kind, bits, least)
    if not levels:
        return choose_levels(bits, kind)
    shapes = [
        Shape(each, bits_of(kind, each), left) for each, left in zip(levels, errors(levels), strict=True)
    ]
    chosen = water_filling(blocks, bits, shapes, exactly)
    return tuple(level for shape in chosen for level in shape.levels)


def typical_errors(kind: str, blocks: Sequence[Levels]) -> list[tuple[float, ...]]:
    """About what `blocks` of this kind leave of a unit variance in each channel, without measuring any.

    1.14 L^-1.65 at L levels, within 6 % of the least error of evenly spaced levels on a Gaussian (Max 1960)
    for 2 to 24 levels. A planar block has as many levels per channel as its number of points asks for.
    """
    found = []
    for levels in blocks:
        points_per_level = (2 ** bits_of(kind, levels) / math.prod(levels)) ** (1 / len(levels))
        found.append(tuple(1.14 * (level * points_per_level) ** -1.65 for level in levels))
    return found


def water_filling(
    variances: Tensor, bits: float, shapes: Sequence[Shape], exactly: int | None = None
) -> list[Shape]:
    """The shape of each block that gets one, for the least squared error at about `bits` in all.

    variances: [blocks, width], those of the components of each block, the largest first. exactly: how many
    blocks get a shape (the first); None leaves it open.

    At most `bits`, and at least 99.5 % of it; within 2 % where that cannot be. Raises QuantizerError where
    that cannot be either.
    """
    fewest = min(shape.bits for shape in shapes)
    if exactly is not None:
        if exactly * fewest > bits * (1 + WORST):
            raise QuantizerError(
                f"{exactly} blocks have {exactly * fewest:.1f} bits at least, more than {bits:g}; give fewer "
                "channels, or more bits"
            )
        missing = max(0, exactly - len(variances))
        variances = torch.cat((variances, variances.new_zeros(missing, variances.shape[1])))[:exactly]
    else:
        variances = variances[: max(1, int(bits / fewest))]
    unit = bits / _UNITS
    room = int(_UNITS * (1 + WORST)) + 1
    costs = variances.double() @ torch.tensor([shape.errors for shape in shapes], dtype=torch.float64).mT
    left = torch.full((room + 1,), torch.inf, dtype=torch.float64)  # by units spent
    left[0] = 0.0
    spent = torch.zeros(room + 1, dtype=torch.float64)  # exactly, on the best way there
    choices = []
    for block, power in enumerate(variances.sum(1).tolist()):
        kept = left + power if exactly is None else torch.full_like(left, torch.inf)
        new_spent, choice = spent.clone(), torch.full((room + 1,), -1)
        for number, shape in enumerate(shapes):
            step = round(shape.bits / unit)
            if step > room:
                continue
            tried = left[: room + 1 - step] + costs[block, number]
            better = tried < kept[step:]
            kept[step:] = torch.where(better, tried, kept[step:])
            choice[step:] = torch.where(better, number, choice[step:])
            new_spent[step:] = torch.where(better, spent[: room + 1 - step] + shape.bits, new_spent[step:])
        left, spent = kept, new_spent
        choices.append(choice)
    place = _best_place(left, spent, bits)
    chosen = []
    for choice in reversed(choices):
        number = int(choice[place])
        if number >= 0:
            chosen.append(shapes[number])
            place -= round(shapes[number].bits / unit)
    return chosen[::-1]


def distortion(variances: Tensor, shapes: Sequence[Shape]) -> float:
    """Squared error of a frame whose components have `variances` [dim], falling, where the first go through
    `shapes`."""
    errors = torch.tensor([error for shape in shapes for error in shape.errors], dtype=torch.float64)
    missing = max(0, len(errors) - len(variances))
    variances = torch.cat((variances.double(), torch.zeros(missing, dtype=torch.float64)))
    return float((variances[: len(errors)] * errors).sum() + variances[len(errors) :].sum())


def _best_place(left: Tensor, spent: Tensor, bits: float) -> int:
    """Where the error is least among the totals that are allowed, the nearest windows first."""
    off = spent / bits - 1
    reachable = torch.isfinite(left)
    for allowed in (off.le(1e-9) & off.ge(-TOLERANCE), off.abs().le(WORST)):
        window = reachable & allowed
        if window.any():
            return int(left.masked_fill(~window, torch.inf).argmin())
    nearest = off.abs().masked_fill(~reachable, torch.inf)
    told = f" (the nearest have {float(spent[int(nearest.argmin())]):.2f})" if reachable.any() else ""
    raise QuantizerError(
        f"no levels come within {WORST:.0%} of {bits:g} bits{told}; give another number of channels, or "
        "other bits"
    )


def _even(variances: Tensor, bits: float, kind: str, errors: Errors) -> Levels:
    """Even levels on the number of channels that leaves the least error, at equal rates."""
    width = width_of(kind)
    fewest = -(-math.ceil(bits / MOST_BITS) // width) * width
    tried = []
    for channels in range(fewest, min(len(variances) + width - 1, int(bits)) + 1, width):
        levels = choose_levels(bits, kind, channels=channels)
        blocks = [levels[first : first + width] for first in range(0, channels, width)]
        blocks.sort(key=math.prod, reverse=True)
        off = math.fsum(bits_of(kind, block) for block in blocks) - bits
        if abs(off) <= WORST * bits:
            tried.append((blocks, off))
    if not tried:
        return choose_levels(bits, kind)
    needed = sorted({block for blocks, _ in tried for block in blocks})
    left = dict(zip(needed, errors(needed), strict=True))

    def error(choice: tuple[list[Levels], float]) -> float:
        blocks, off = choice
        shapes = [Shape(block, bits_of(kind, block), left[block]) for block in blocks]
        return distortion(variances, shapes) * 4 ** (off / (width * len(blocks)))

    return tuple(level for block in min(tried, key=error)[0] for level in block)


def _in_blocks(variances: Tensor, width: int) -> Tensor:
    """[dim] -> [blocks, width], zeros in the last where it is not full."""
    missing = -len(variances) % width
    return torch.cat((variances, variances.new_zeros(missing))).unflatten(0, (-1, width))
