"""Whether channels are pushed into the ends of their range, and how many dimensions quantization leaves.

Saturation. A channel whose values pile up where tanh is flat has little gradient, and most of its levels
stand empty. Its outermost cell reaches from the last boundary between levels to the end of the range. Counted
is the share of values beyond the centre of that cell, on either side.

- An evenly filled range of L levels shows 1 / L with `range: cell` (half of each outer cell, 1 / L wide) and
  1 / (2 (L - 1)) with `edge`, whose outer cells are half as wide. A start from data shows less, since its
  scale is below the even one.
- The limit is 2 / L: as much as the outer cells hold in all where all cells are used alike. A quantizer that
  uses its codes evenly stays below it however it fills its cells; one above it has more values in half of the
  outer cells than even use gives to the whole of them. At two levels, signs, it is 1 and never passed.
- In the 39 runs of `fsq`, `q2d2-rect` and `q2d2-rect-released` in docs/results/studies.zip (1000 steps
  after a warm start of 4000), the outer cells of a channel as a whole hold 0.05 to 1.07 times 2 / L. What
  lies beyond their centres is a part of that.
- In docs/gallery/voronoi-tilings.png half of the latents lie in a corner of the first pair, after 60 steps
  from random weights. A run like it (`q2d2-rect`, 14 x 15 levels, seed 0) has 31 % and 61 % of the pair's two
  channels beyond the centres, 2.2 and 4.6 times the limit, and 0.4 and 0.9 times the limit in the other pair.

Effective dimension. The participation ratio of the covariance C of features, (sum l)^2 / sum l^2 over its
eigenvalues l, is tr(C)^2 / tr(C^2): n where n directions share the variance equally, 1 where one has it all
(Gao et al. 2017, arXiv 2605.06870 for quantized features). Nearly always less is left after quantization;
how much less says what a quantizer takes away in directions, beside what it takes away in decibels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class ChannelRanges(NamedTuple):
    """Where the levels of each channel lie, in the units of the diagnostics `coordinates`.

    levels: steps of each channel. boundaries: distance from 0 of the last boundary between levels.
    reaches: how far from 0 coordinates can come.
    """

    levels: tuple[int, ...]
    boundaries: tuple[float, ...]
    reaches: tuple[float, ...]

    @property
    def centres(self) -> tuple[float, ...]:
        """Distance from 0 of the centre of the outermost cell of each channel."""
        return tuple((low + high) / 2 for low, high in zip(self.boundaries, self.reaches, strict=True))

    @property
    def even_shares(self) -> tuple[float, ...]:
        """Share beyond the centres, on both sides, of values that fill the range evenly."""
        return tuple((high - centre) / high for centre, high in zip(self.centres, self.reaches, strict=True))

    @property
    def limits(self) -> tuple[float, ...]:
        """Share beyond the centres from which on a channel is called saturated."""
        return tuple(min(1.0, 2 / level) for level in self.levels)


def ranges(levels: Sequence[int], steps: Sequence[float], reaches: Sequence[float]) -> ChannelRanges:
    """Ranges of channels with `levels` levels each `steps` apart, centred on 0, that reach to `reaches`."""
    boundaries = [max(0.0, level / 2 - 1) * step for level, step in zip(levels, steps, strict=True)]
    return ChannelRanges(tuple(levels), tuple(boundaries), tuple(reaches))


class SaturationCounter:
    """Counts values beyond the centres of outermost cells, batch by batch."""

    def __init__(self, ranges: ChannelRanges) -> None:
        self.ranges = ranges
        self.frames = 0
        self._beyond = torch.zeros(len(ranges.levels), dtype=torch.int64)

    @torch.no_grad()
    def update(self, coordinates: Tensor) -> None:
        """Count `coordinates` [..., channels], those of the diagnostics in eval mode."""
        values = coordinates.detach().flatten(0, -2).abs()
        self.frames += len(values)
        centres = torch.tensor(self.ranges.centres, dtype=values.dtype, device=values.device)
        self._beyond += (values > centres).sum(0).cpu()

    def report(self) -> dict[str, Any]:
        """Plain numbers: `share`, of all values, and `saturated`, of the channels those above their limits;
        then `shares`, `even_shares` and `limits` by channel, and `warning`, a sentence or None."""
        shares = [count / self.frames if self.frames else 0.0 for count in self._beyond.tolist()]
        limits = self.ranges.limits
        above = [i for i, (share, limit) in enumerate(zip(shares, limits, strict=True)) if share > limit]
        warning = None
        if above:
            worst = max(above, key=lambda i: shares[i] / limits[i])
            warning = (
                f"{len(above)} of {len(shares)} channels are saturated: {shares[worst]:.0%} of the values of "
                f"channel {worst + 1} lie beyond the centre of its outermost cells, where an evenly filled "
                f"range has {self.ranges.even_shares[worst]:.0%}; start from data, or lower the learning rate"
            )
        return {
            "frames": self.frames,
            "share": sum(shares) / len(shares) if shares else 0.0,
            "saturated": len(above) / len(shares) if shares else 0.0,
            "shares": shares,
            "even_shares": list(self.ranges.even_shares),
            "limits": list(limits),
            "warning": warning,
        }


class DimensionCounter:
    """Sums up the covariance of features, batch by batch, in float64."""

    def __init__(self, dim: int) -> None:
        self.frames = 0
        self._first: Tensor | None = None  # taken off all frames, so that large means cost no digits
        self._sum = torch.zeros(dim, dtype=torch.float64)
        self._products = torch.zeros(dim, dim, dtype=torch.float64)

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Take in `features` [..., dim]."""
        frames = features.detach().flatten(0, -2).cpu().double()
        if not len(frames):
            return
        if self._first is None:
            self._first = frames[0].clone()
        frames = frames - self._first
        self.frames += len(frames)
        self._sum += frames.sum(0)
        self._products += frames.mT @ frames

    @property
    def covariance(self) -> Tensor:
        """Covariance [dim, dim] float64 of what was taken in."""
        count = max(1, self.frames)
        mean = self._sum / count
        return self._products / count - mean.unsqueeze(1) * mean

    @property
    def effective_dimension(self) -> float:
        """Participation ratio of the covariance, from 1 to dim; 0 where nothing varies."""
        return participation_ratio(self.covariance)


def participation_ratio(covariance: Tensor) -> float:
    """tr(C)^2 / tr(C^2) of a covariance C [dim, dim]; 0 for none."""
    power = covariance.square().sum()
    return float(covariance.trace().square() / power) if power > 0 else 0.0
