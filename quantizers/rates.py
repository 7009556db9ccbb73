"""Rates: bits per frame, and the configuration whose bits are nearest a target.

Scalar and planar methods get about 3.2 bits per channel (9 levels), the middle of the range 5 to 11 in which
the Q2D2 paper found training stable: 6 channels from 16 to 22 bits, as in the paper, and an even number at
every other rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from quantizers.geometry.grids import ROW, PlanarGrid
from quantizers.option_checks import LIMITS, QuantizerError, check_count, check_limits

BITS_PER_CHANNEL = 3.2
MOST_BITS = 8  # of a channel, where levels are chosen by variances
TOLERANCE = 0.005  # among configurations this near the target, the predicted error decides
BITS_PER_CODEBOOK = 13  # one trainable codebook of vectors: 8192 codes
BITS_PER_STAGE = 10.5  # one stage of a residual quantizer: 1448 codes
SCALAR_KINDS = {"scalar": 3, "symmetric": 2, "even": 2}  # and the fewest levels of each


def bits_per_second(bits_per_frame: float, frame_rate: float) -> float:
    """Bitrate in bit/s; `frame_rate` in Hz."""
    return bits_per_frame * frame_rate


def check_bits(bits: float) -> None:
    """Raise QuantizerError unless `bits` is a rate that a quantizer can have."""
    if (
        isinstance(bits, bool)
        or not isinstance(bits, (int, float))
        or not (math.isfinite(bits) and bits >= 1)
    ):
        raise QuantizerError(f"bits must be a number of at least 1 bit per frame, not {bits!r}")
    check_limits({"bits": bits})


def choose_channels(bits: float) -> int:
    """The even number of channels that spend about 3.2 bits each."""
    return 2 * max(1, math.floor(bits / (2 * BITS_PER_CHANNEL) + 0.5))


def choose_levels(bits: float, kind: str, channels: int | None = None) -> tuple[int, ...]:
    """Levels of each channel that come nearest `bits`, with the least predicted error among those within
    0.5 %.

    kind: `scalar` (at least 3 levels, as FSQ needs), `symmetric` (at least 2), `even`, a kind of planar grid,
    or `square` (rectangular, both levels of a pair equal).
    channels: their number, even for planar grids; None chooses it. Raises QuantizerError where no levels fit.
    """
    check_bits(bits)
    if channels is None:
        channels = 1 if kind in SCALAR_KINDS and bits < 2 * math.log2(3) else choose_channels(bits)
    check_count("channels", channels)
    width = width_of(kind)
    if channels % width:
        raise QuantizerError(
            f"channels must be even, since a planar grid takes them in pairs; {channels} is not"
        )
    check_limits({"channels": channels})
    if bits > channels * math.log2(LIMITS["levels"]):
        raise QuantizerError(f"{bits:g} bits are too many for {channels} channel(s); give more channels")
    blocks = channels // width
    shapes = list(_shapes(kind, bits / blocks))
    best: tuple[tuple[float, float], tuple[int, ...]] | None = None
    # Two different shapes at most: enough for 0.5 %, and the levels stay as even as they can be.
    for first_bits, first, first_error in shapes:
        for second_bits, second, second_error in shapes:
            for count in range(1, blocks + 1):
                total = count * first_bits + (blocks - count) * second_bits
                off = abs(total - bits) / bits
                distortion = (count * first_error + (blocks - count) * second_error) * 4 ** (total / channels)
                rank = (0.0, distortion) if off <= TOLERANCE else (off, distortion)
                if best is None or rank < best[0]:
                    best = (rank, first * count + second * (blocks - count))
    assert best is not None
    return best[1]


def width_of(kind: str) -> int:
    """Number of channels that share a cell."""
    return 1 if kind in SCALAR_KINDS else 2


def bits_of(kind: str, levels: Sequence[int]) -> float:
    """Bits of one block of this kind and `levels`."""
    if kind in SCALAR_KINDS:
        return math.log2(levels[0])
    grid, spacing = ("rect", "ideal") if kind == "square" else (kind, "ideal")
    return math.log2(PlanarGrid(grid, (levels[0], levels[1]), spacing).size)


def candidate_levels(kind: str, bits: float, least: int | None = None) -> list[tuple[int, ...]]:
    """Levels that a block may have under water-filling, at most `bits` and `MOST_BITS` a channel.

    All small numbers, then steps of 6 % (scalar) or 15 % (planar). Planar ones have up to three times as many
    steps along the first axis as along the second: where the deviations of a pair's components differ, cells
    stay regular in feature space if the steps differ as they do, and the first component is the larger one.

    least: fewest levels of a scalar channel, if not that of its kind.
    """
    most = min(bits, MOST_BITS * width_of(kind)) + 1e-9
    if kind in SCALAR_KINDS:
        levels = _spread(least or SCALAR_KINDS[kind], 2.0**most, 0.06)
        step = 2 if kind == "even" else 1
        return [(level,) for level in sorted({level - level % step for level in levels})]
    if kind == "square":
        return [(level, level) for level in _spread(2, 2 ** (most / 2), 0.06)]
    columns = rows = list(_spread(2, 2 * 2 ** (most / 2), 0.15))
    if kind in ("hex", "rhombic"):
        rows = sorted({level | 1 for level in rows})
    if kind == "rhombic":
        columns = rows
    tallest = 1.5 if kind == "hex" else 1.0  # rows of a hexagonal grid are closer together
    return [
        (x, y) for x in columns for y in rows if x / 3 <= y <= tallest * x and bits_of(kind, (x, y)) <= most
    ]


def _spread(first: int, last: float, step: float) -> Iterator[int]:
    """Whole numbers from `first` to `last`, each at least the share `step` above the one before."""
    level = first
    while level <= last + 1e-6:
        yield level
        level = max(level + 1, round(level * (1 + step)))


def choose_codebooks(bits: float, most_bits: float, fewest: int = 1) -> tuple[int, int]:
    """Number of codebooks and codes in each, nearest `bits`: as few codebooks as `most_bits` of each
    allow."""
    check_bits(bits)
    number = max(fewest if bits >= 2 * fewest else 1, math.ceil(bits / most_bits - 1e-9))
    return number, max(2, round(2 ** (bits / number)))


def _shapes(kind: str, bits: float) -> Iterator[tuple[float, tuple[int, ...], float]]:
    """Blocks of about `bits`: their bits, levels, and mean squared error on [-1, 1] up to a factor.

    A grid of side s steps has cells of 1 / s on the interval: equal, square cells are best.
    """
    if kind in SCALAR_KINDS:
        middle, least = round(2**bits), SCALAR_KINDS[kind]
        for level in range(max(least, middle - 3), max(least, middle) + 4):
            if kind != "even" or level % 2 == 0:
                yield math.log2(level), (level,), level**-2.0
        return
    grid = "rect" if kind == "square" else kind
    density = {"rect": 1.0, "hex": 1 / ROW, "rhombic": 2.0}[grid]
    side = math.sqrt(2**bits / density)
    reach = 3
    for columns in range(max(2, int(side) - reach), int(side) + reach + 2):
        row = ROW if kind == "hex" else 1.0
        # Sides that differ by more than two steps are left out below; the range is that of all others.
        first = max(2, int(side / row) - reach, int((columns - 2) / row))
        for rows in range(first, min(int(side * 1.2) + reach + 2, int((columns + 2) / row) + 2)):
            if (kind == "rhombic" and columns % 2 == 0) or (kind in ("hex", "rhombic") and rows % 2 == 0):
                continue
            if kind == "square" and columns != rows:
                continue
            sides = float(columns), rows * row
            if abs(sides[0] - sides[1]) <= 2.0:
                error = sides[0] ** -2 + sides[1] ** -2
                yield math.log2(PlanarGrid(grid, (columns, rows)).size), (columns, rows), error


def choose_enlargements(n: int, bits: float, blocks: int) -> tuple[int, ...]:
    """By what the cells of `blocks` blocks of `n` channels are enlarged: two neighbouring integers."""
    low = max(2, int(2 ** (bits / (n * blocks))))
    each = [n * math.log2(low), n * math.log2(low + 1)]
    ups = min(range(blocks + 1), key=lambda up: abs((blocks - up) * each[0] + up * each[1] - bits))
    return (low,) * (blocks - ups) + (low + 1,) * ups
