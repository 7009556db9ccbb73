"""Sign quantizers: one bit per channel.

`lfq`: lookup-free quantization (Yu et al. 2023, arXiv 2310.05737). `bsq`: binary spherical quantization
(Zhao et al. 2024, arXiv 2406.07548), LFQ on the unit sphere. `residual-lfq`: stages of LFQ, each half the
size of the one before.

Written here, not taken from vector-quantize-pytorch, because that one's entropy loss holds a softmax of
[tokens, 2 ** bits] (2.5 GB at 19 bits and 1200 tokens). A softmax over sign codes factorises into one
sigmoid a bit, so the entropy of each token is a sum over bits, exactly. The entropy of the batch's mean
does not; it is exact within groups of at most `group_bits` bits and summed over groups (arXiv 2406.07548,
section 3.3). Where one group holds all bits the loss equals the library's (tests).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
import torch.nn.functional as F
from torch import Tensor, nn

from quantizers.contract import Config, Quantized, Quantizer
from quantizers.option_checks import QuantizerError, check_count, check_open, check_weight
from quantizers.parts.components import generator, least_squares, principal_components, set_linear
from quantizers.parts.mixed_radix import MixedRadix
from quantizers.parts.signs import best_deviation, deviations, iterative_quantization
from quantizers.parts.straight_through import straight_through, zero_loss
from quantizers.rates import check_bits

EPSILON = 1e-5  # floor of probabilities inside the logarithm, the library's


@dataclass(frozen=True, kw_only=True)
class BinaryConfig(Config):
    """Options of `lfq`, `bsq` and `residual-lfq`.

    channels: bits per stage.
    stages: residual stages, each with its own token stream.
    entropy: weight of the entropy loss: mean entropy of a token minus gamma times the entropy of the mean.
    gamma: weight of the entropy of the mean within the entropy loss.
    commitment: weight of the commitment loss.
    inverse_temperature: inverse temperature of the soft codes in the entropy loss.
    group_bits: bits whose joint entropy is computed exactly; longer codes are split into groups of this many.
    spherical: true normalises the channels to a unit vector before taking signs (BSQ); false is LFQ.
    """

    channels: int = 16
    stages: int = 1
    entropy: float = 0.1
    gamma: float = 1.0
    commitment: float = 0.25
    inverse_temperature: float = 100.0
    group_bits: int = 9
    spherical: bool = False

    def __post_init__(self) -> None:
        check_count("channels", self.channels)
        if self.channels > 62:
            raise QuantizerError(
                f"a token of {self.channels} bits does not fit int64; use at most 62, or more stages"
            )
        check_count("stages", self.stages)
        check_count("group_bits", self.group_bits)
        for name in ("entropy", "gamma", "commitment", "inverse_temperature"):
            check_weight(name, getattr(self, name))


class Binary(Quantizer):
    """A linear map to `channels`, the sign of each, a linear map back."""

    config_class = BinaryConfig
    family = "binary"
    paper = "arXiv 2310.05737"
    config: BinaryConfig

    def __init__(self, dim: int, config: BinaryConfig) -> None:
        super().__init__(dim, config)
        self.codebook_sizes = (2**config.channels,) * config.stages
        self.bits = MixedRadix([2] * config.channels)
        self.project_in = nn.Linear(dim, config.channels)
        self.project_out = nn.Linear(config.channels, dim)

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_bits(bits)
        check_open("channels", options)
        if "stages" in options:
            check_count("stages", options["stages"])
            return {**options, "channels": max(1, round(bits / options["stages"]))}
        # Whole bits in equal stages: the nearest product, with two stages if they do.
        best = min(
            range(2, 9), key=lambda stages: (abs(stages * max(1, round(bits / stages)) - bits), stages)
        )
        return {**options, "stages": best, "channels": max(1, round(bits / best))}

    @classmethod
    def depth_of(cls, config: BinaryConfig) -> int:
        return config.stages

    def cut(self, stages: int) -> Binary:
        part = type(self)(self.dim, replace(self.config, stages=stages))
        part.project_in, part.project_out = self.project_in, self.project_out
        return part

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        return (2,) * (self.config.channels * self.config.stages)

    def initialise(self, features: Tensor) -> None:
        """Principal components, turned so that they lie near their codes; the least-squares way back out.

        The turn is that of iterative quantization, from no turn and from a random one; the one that leaves
        less error is kept. Each channel then has the deviation with which a Gaussian is nearest its codes.
        """
        components = principal_components(features)
        channels = self.config.channels
        random = torch.randn(channels, channels, generator=generator(), dtype=torch.float64)
        used = min(channels, components.rank)
        if not used:
            set_linear(self.project_in, random[:, :1].expand(-1, self.dim) / self.dim, torch.zeros(channels))
            set_linear(self.project_out, *least_squares(self._totals(features), features))
            return
        deviation = best_deviation(self.config.stages)
        scores = components.scores(features)[:, :used]
        found = []
        for first in (torch.eye(channels, dtype=torch.float64)[:used], torch.linalg.qr(random).Q[:used]):
            turn = iterative_quantization(scores, first, self.config.stages)
            turned = scores @ turn
            weight = (components.directions[:, :used] @ turn * deviation / deviations(turned)).mT
            set_linear(self.project_in, weight, -weight @ components.mean)
            totals = self._totals(features)
            out = least_squares(totals, features)
            left = features.cpu().double() - totals.cpu().double() @ out[0].mT - out[1]
            found.append((float(left.square().mean()), weight, out))
        _, weight, out = min(found, key=lambda each: each[0])
        set_linear(self.project_in, weight, -weight @ components.mean)
        set_linear(self.project_out, *out)

    def _totals(self, features: Tensor) -> Tensor:
        """What `project_out` takes [frames, channels], of `features` [frames, dim]."""
        return self._total(self.quantize(features.unsqueeze(0)).codes).squeeze(0)

    def quantize(self, features: Tensor) -> Quantized:
        low = self._normalise(self.project_in(features))
        residual, total, loss, codes = low, torch.zeros_like(low), zero_loss(features), []
        for stage in range(self.config.stages):
            positive = residual > 0
            value = self._value(positive, stage)
            codes.append(self.bits.pack(positive.long()))
            if self.training and low.numel():
                loss = loss + self._loss(residual, value, stage) / self.config.stages
            total, residual = total + value, residual - value
        features = self.project_out(straight_through(total, low))
        return Quantized(features, torch.cat(codes, -1), loss, {})

    def lookup(self, codes: Tensor) -> Tensor:
        return self.project_out(self._total(codes))

    def _total(self, codes: Tensor) -> Tensor:
        """Sum of the stages' values [batch, frames, channels]."""
        bits = self.factors(codes).unflatten(-1, (self.config.stages, self.config.channels))
        total = torch.zeros_like(bits[..., 0, :], dtype=torch.float32)
        for stage, positive in enumerate(bits.unbind(-2)):
            total = total + self._value(positive > 0, stage)
        return total

    def factors(self, codes: Tensor) -> Tensor:
        return self.bits.unpack(codes.unsqueeze(-1)).flatten(-2)

    def surrogate(self, features: Tensor) -> Tensor:
        return self.project_out(self._normalise(self.project_in(features)))

    def _normalise(self, low: Tensor) -> Tensor:
        return F.normalize(low, dim=-1) if self.config.spherical else low

    def _scale(self, stage: int) -> float:
        return 2.0**-stage * (self.config.channels**-0.5 if self.config.spherical else 1.0)

    def _value(self, positive: Tensor, stage: int) -> Tensor:
        scale = self._scale(stage)
        return torch.where(positive, scale, -scale)

    def _loss(self, residual: Tensor, value: Tensor, stage: int) -> Tensor:
        commitment = self.config.commitment * F.mse_loss(residual, value)
        if not self.config.entropy:
            return commitment
        # softmax over codes c of 2 t <x, c>, c = +-scale: each bit is on with probability sigmoid(4 t x
        # scale).
        on = torch.sigmoid(4 * self.config.inverse_temperature * self._scale(stage) * residual.flatten(0, 1))
        each = _entropy(torch.stack((on, 1 - on), -1)).sum(-1).mean()
        groups = -(-self.config.channels // self.config.group_bits)
        mean = on.new_zeros(())
        for part in torch.tensor_split(on, groups, dim=-1):
            joint = torch.ones_like(part[:, :1])
            for bit in part.unbind(-1):
                joint = torch.cat((joint * bit.unsqueeze(-1), joint * (1 - bit).unsqueeze(-1)), -1)
            mean = mean + _entropy(_mean_over_ranks(joint.mean(0)))
        return commitment + self.config.entropy * (each - self.config.gamma * mean)


def _entropy(probabilities: Tensor) -> Tensor:
    """Nats, over the last axis."""
    return -(probabilities * probabilities.clamp_min(EPSILON).log()).sum(-1)


def _mean_over_ranks(values: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return dist_nn.all_reduce(values) / dist.get_world_size()
    return values
