"""Stages of even levels, each of which brings what is left over to its own range: Robust RFSQ (Zhu et al.
2025, arXiv 2508.15860).

Stage k of a channel takes the residual r to x = a (r - m), rounds it to the nearest of L even levels v on
[-1, 1], and leaves r - q with q = v / a + m. The map is one for all frames, fixed after training, so decoding
costs no bits:

- `scale`: m = 0, a = L^k e^s with a learned s. At s = 0 these are the stages of a plain residual FSQ: a cell
  of stage k - 1 is the range of stage k.
- `layernorm`: x = g (r - mean) / deviation + b with learned g, b and with moving averages of the mean and
  the deviation of the residual. The paper's scale is one per stage; here each channel has its own, since
  channels differ in levels. Statistics of the frame itself, as a layer norm usually takes them, could not be
  inverted by a decoder that has the codes alone.

Gradients: levels that were chosen are constants, so scale and shift move as those of a decoder do, to where
the chosen levels fit best. The features have the gradient of what goes into the first stage.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from quantizers.integers import whole
from quantizers.parts.components import unexplained

CONDITIONINGS = ("none", "scale", "layernorm")
DECAY = 0.99  # of the moving averages of mean and variance
SEARCHED_FRAMES = 4096  # on which scales are compared
LEAST_VARIANCE = 1e-20  # of a residual: far below those of the last stages
SEARCHED = tuple(sign * 2.0**-step for step in range(5) for sign in (1, -1))  # of log2 of a scale


class ConditionedStages(nn.Module):
    """`stages` times `levels` of each channel, on [-1 - 1/(L - 1), 1 + 1/(L - 1)] in the first stage."""

    sizes: Tensor
    first: Tensor
    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, levels: Sequence[int], stages: int, conditioning: str) -> None:
        super().__init__()
        self.stages, self.normalised = stages, conditioning == "layernorm"
        sizes = torch.tensor(levels, dtype=torch.float64)
        plain = sizes ** torch.arange(stages, dtype=torch.float64).unsqueeze(1)  # [stages, channels]
        # The deviation of a residual that fills its range evenly, 1 + 1 / (L - 1) on either side.
        spread = sizes / (sizes - 1) / math.sqrt(3)
        self.register_buffer("sizes", sizes.float(), persistent=False)
        self.register_buffer(
            "first", (spread.expand_as(plain) if self.normalised else plain).float(), persistent=False
        )
        self.log_scale = nn.Parameter(torch.zeros(plain.shape))
        if self.normalised:
            self.shift = nn.Parameter(torch.zeros(plain.shape))
            self.register_buffer("mean", torch.zeros(plain.shape))
            self.register_buffer("variance", (spread / plain).square().float())
            self.register_buffer("seen", torch.tensor(False))

    def forward(self, values: Tensor) -> Tensor:
        """Levels [..., stages, channels] int64 of `values` [..., channels]. In training mode the moving
        averages follow."""
        residual, levels = values.detach(), []
        for stage in range(self.stages):
            if self.training and self.normalised:
                self._follow(stage, residual)
            with torch.no_grad():
                level = self._level(stage, residual)
                residual = residual - self._value(stage, level)
            levels.append(level)
        return torch.stack(levels, -2)

    def values(self, levels: Tensor) -> list[Tensor]:
        """What each stage adds, [..., channels], of `levels` [..., stages, channels] int64."""
        return [self._value(stage, levels[..., stage, :]) for stage in range(self.stages)]

    def prefix(self, stages: int) -> ConditionedStages:
        """The first `stages`, with copies of what was learned."""
        part = copy.deepcopy(self)
        part.stages = stages
        return part

    @torch.no_grad()
    def reset(self) -> None:
        """Set all that is learned to the stages of a plain residual FSQ."""
        self.log_scale.zero_()
        if self.normalised:
            self.shift.zero_()
            self.mean.zero_()
            plain = self.sizes.double() ** torch.arange(self.stages, device=self.sizes.device).unsqueeze(1)
            self.variance.copy_((self.first.double() / plain).square())
            self.seen.fill_(False)

    @torch.no_grad()
    def settle(self, values: Tensor, targets: Tensor, apart: bool) -> None:
        """From plain stages, set all that is learned so that `values` [frames, channels] tell `targets` best.

        By an affine read-out of each channel: one factor for all stages (of the first, where later ones
        follow it by their deviations) and, if `apart`, then one for each, from octaves down to a sixteenth of
        one. It is kept in the channels where it is better, so none becomes worse.
        """
        self.reset()
        part = slice(None, None, -(-len(values) // SEARCHED_FRAMES))
        least = self._unexplained(values[part], targets[part])
        if self.normalised:
            least = self._as_plain(values[part], targets[part], least)
        together = [(step, slice(0, 1 if self.normalised else self.stages)) for step in SEARCHED]
        each = [(step, slice(stage, stage + 1)) for step in SEARCHED for stage in range(self.stages)]
        for step, stages in (*together, *(each if apart else ())):
            before = self.log_scale.clone()
            self.log_scale[stages] += step * math.log(2)
            least = self._better(before, least, values[part], targets[part])
        self._unexplained(values, targets)  # statistics of the scales that were kept

    def _as_plain(self, values: Tensor, targets: Tensor, least: Tensor) -> Tensor:
        """Scale as plain stages do, in channels where that leaves less than `least`. Returns what is left."""
        before, residual = self.log_scale.clone(), values
        for stage in range(self.stages):
            self._see(stage, residual)
            plain = self.sizes**stage
            self.log_scale[stage] += torch.log(plain / self._map(stage)[0])
            residual = residual - self._value(stage, self._level(stage, residual))
        return self._better(before, least, values, targets)

    def _better(self, before: Tensor, least: Tensor, values: Tensor, targets: Tensor) -> Tensor:
        """Go back to the scales `before` in channels that are left no less than `least`. Returns what is
        left."""
        left = self._unexplained(values, targets)
        better = left < least * (1 - 1e-9)
        self.log_scale.copy_(torch.where(better.to(before.device), self.log_scale, before))
        return torch.where(better, left, least)

    def _unexplained(self, values: Tensor, targets: Tensor) -> Tensor:
        """What the stages leave of each channel of `targets`; their statistics become those of `values`."""
        residual = values
        for stage in range(self.stages):
            if self.normalised:
                self._see(stage, residual)
            residual = residual - self._value(stage, self._level(stage, residual))
        return unexplained(values - residual, targets, 1)

    def _see(self, stage: int, residual: Tensor) -> None:
        """Take the statistics of a stage from `residual` [frames, channels]."""
        self.mean[stage] = residual.mean(0)
        self.variance[stage] = residual.var(0, correction=0)
        self.seen.fill_(True)

    def _level(self, stage: int, residual: Tensor) -> Tensor:
        """Levels [..., channels] int64 of a residual; that of NaN is 0."""
        scale, shift = self._map(stage)
        inner = ((residual - shift) * scale).clamp(-1, 1)
        return whole(((inner + 1) * (self.sizes - 1) / 2).round())

    def _map(self, stage: int) -> tuple[Tensor, Tensor]:
        """What a residual is multiplied by after what is taken off it, each [channels]."""
        scale = self.first[stage] * self.log_scale[stage].exp()
        if not self.normalised:
            return scale, torch.zeros_like(scale)
        deviation = self.variance[stage].clamp_min(LEAST_VARIANCE).sqrt()
        return scale / deviation, self.mean[stage] - self.shift[stage] * deviation / scale

    def _value(self, stage: int, level: Tensor) -> Tensor:
        scale, shift = self._map(stage)
        return (2 * level / (self.sizes - 1) - 1) / scale + shift

    @torch.no_grad()
    def _follow(self, stage: int, residual: Tensor) -> None:
        """Move the statistics of a stage towards those of `residual` over all ranks, which have as many
        frames each; values that are not finite leave them alone."""
        frames = residual.reshape(-1, residual.shape[-1])
        if not len(frames):
            return
        moments = torch.stack((frames.mean(0), frames.square().mean(0)))
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(moments)
            moments = moments / dist.get_world_size()
        mean, variance = moments[0], moments[1] - moments[0].square()
        usable = torch.isfinite(moments).all()
        share = torch.where(self.seen, 1 - DECAY, 1.0)
        for average, value in ((self.mean[stage], mean), (self.variance[stage], variance.clamp_min(0))):
            average.copy_(torch.where(usable, torch.lerp(average, value, share), average))
        if stage == self.stages - 1:
            self.seen |= usable
