"""Residual FSQ: stages of finite scalar quantization on what is left over (vector-quantize-pytorch's
ResidualFSQ), with scaled or normalised stages as an option (Robust RFSQ, arXiv 2508.15860)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quantizers.option_checks import MOST_VALUES, QuantizerError, check_choice, check_count, check_weight
from quantizers.parts.channels import ChannelQuantizer, LevelsConfig
from quantizers.parts.conditioned_stages import CONDITIONINGS, ConditionedStages
from quantizers.parts.library import LibraryQuantizer
from quantizers.parts.stage_dropout import kept_stages
from quantizers.parts.straight_through import straight_through, zero_loss
from quantizers.rates import TOLERANCE, check_bits, choose_channels, choose_levels

MOST_CODES = 2**24  # of one stage: the library computes indices in float32


@dataclass(frozen=True, kw_only=True)
class ResidualFSQConfig(LevelsConfig):
    """Options of `residual-fsq`.

    levels: number of levels of each channel, the same in every stage.
    stages: residual stages, each with its own token stream.
    conditioning: scaling of the residual to the range of a stage. `none` scales by the levels of the stages
        before, as in the library. `scale` also multiplies by a learned factor. `layernorm` is a learned map
        of residuals whose mean and deviation are moving averages (arXiv 2508.15860, see
        `parts.conditioned_stages`).
    dropout: fraction of the clips of a training batch that are decoded from a random number of first stages,
        so that any number of first stages can be decoded later (see `parts.stage_dropout`).
    """

    added = ("conditioning", "dropout")

    levels: tuple[int, ...] = (3, 3, 3, 3, 3, 3)  # less than others, since stages multiply
    stages: int = 2
    conditioning: str = "none"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_levels(2)
        check_choice("conditioning", self.conditioning, CONDITIONINGS)
        check_count("stages", self.stages)
        check_weight("dropout", self.dropout, maximum=1.0)
        if math.prod(self.levels) > MOST_CODES:
            raise QuantizerError(
                f"a stage of {math.prod(self.levels)} codes is beyond 2^24, where the library's float32 "
                "indices go wrong; use more stages of fewer levels"
            )
        tables = math.prod(self.levels) * len(self.levels) * self.stages
        if tables > MOST_VALUES:
            raise QuantizerError(
                f"the library's tables of all codes would hold {tables:,} values, more than {MOST_VALUES:,}; "
                "use fewer stages, or fewer levels"
            )


class ResidualFSQ(ChannelQuantizer, LibraryQuantizer):
    """The ResidualFSQ of vector-quantize-pytorch: stages of FSQ, each on the residual of the stages before.

    Corrected here: codes were int32; every stage held a table of all codes; indices were float32 (stages of
    more than 2^24 codes are refused).
    """

    config_class = ResidualFSQConfig
    blocks_at_once = 1  # the library refuses stages of many codes
    family = "scalar"
    paper = "arXiv 2309.15505"
    config: ResidualFSQConfig

    reach: Tensor
    conditioned: ConditionedStages | None

    def __init__(self, dim: int, config: ResidualFSQConfig) -> None:
        super().__init__(dim, config)
        self.lay_out(len(config.levels), config.levels)
        self.codebook_sizes = self.packing.stream_sizes * config.stages
        self.register_buffer("reach", 1 + 1 / (torch.tensor(config.levels) - 1), persistent=False)
        self.conditioned = None
        if config.conditioning != "none":
            self.conditioned = ConditionedStages(config.levels, config.stages, config.conditioning)
            return
        from vector_quantize_pytorch import ResidualFSQ as LibraryResidualFSQ  # takes seconds to import

        self.inner = LibraryResidualFSQ(levels=list(config.levels), num_quantizers=config.stages)
        for layer in self.inner.layers:
            del layer.implicit_codebook

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        check_bits(bits)
        asked = cls.number_of_channels(options)
        rest = cls._with_stages(bits, cls.settled(options))
        stages = rest["stages"]
        if asked is not None:
            return {**rest, "levels": choose_levels(bits / stages, "symmetric", channels=asked)}
        best: tuple[float, tuple[int, ...]] | None = None
        for channels in range(choose_channels(bits), 0, -1):
            levels = choose_levels(bits / stages, "symmetric", channels=channels)
            error = abs(stages * math.log2(math.prod(levels)) / bits - 1)
            if best is None or error < best[0]:
                best = error, levels
            if error <= TOLERANCE and max(levels) - min(levels) <= 1:
                best = error, levels
                break
        assert best is not None
        return {**rest, "levels": best[1]}

    @classmethod
    def fit_to(
        cls, bits: float, options: Mapping[str, Any], variances: Tensor, measured: bool = True
    ) -> dict[str, Any]:
        if not cls.waits_for(options):
            return cls.fit(bits, options)
        check_bits(bits)
        staged = cls._with_stages(bits, options)  # every stage has the same levels
        if staged.get("channels") in (None, "paper"):
            staged["channels"] = choose_channels(bits)
        return super().fit_to(bits / staged["stages"], staged, variances, measured)

    @classmethod
    def kind_of_levels(cls, options: Mapping[str, Any]) -> str:
        return "symmetric"

    @staticmethod
    def _with_stages(bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        stages = options.get("stages", 2 if bits >= 4 else 1)
        check_count("stages", stages)
        return {**options, "stages": stages}

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        return self.config.levels * self.config.stages

    @classmethod
    def depth_of(cls, config: ResidualFSQConfig) -> int:
        return config.stages

    def cut(self, stages: int) -> ResidualFSQ:
        part = type(self)(self.dim, replace(self.config, stages=stages))
        part.project_in, part.project_out = self.project_in, self.project_out
        if self.conditioned is not None:
            part.conditioned = self.conditioned.prefix(stages)
        return part

    def call(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dropout = self.config.dropout if self.training else 0.0
        kept = kept_stages(len(features), self.config.stages, dropout, features.device)
        return *self.of_stages(features, kept), zero_loss(features)

    def of_stages(self, features: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
        """Quantized features, those of the stages that are `kept` (see `kept_stages`), and codes of all."""
        low = self.project_in(features)
        smooth = self._clamp(low)
        if self.conditioned is not None:
            codes = self.packing.pack(self.conditioned(smooth)).squeeze(-1)
        else:
            with torch.no_grad():
                value, codes = self.inner(low)
                codes = codes.long().clamp(0, self.codebook_sizes[0] - 1)  # those of NaN are any integer
        if self.conditioned is not None or kept is not None:
            value = self._sum(codes, kept)
        if self.conditioned is not None:  # whose scales have a gradient
            return self.project_out(value + (smooth - smooth.detach())), codes
        return self.project_out(straight_through(value, smooth)), codes

    def channel_values(self, codes: Tensor) -> Tensor:
        return self._sum(codes, None)

    def _sum(self, codes: Tensor, kept: Tensor | None) -> Tensor:
        """Channels [batch, frames, channels] of the stages of `codes` that are kept."""
        levels = self.factors(codes).unflatten(-1, (self.config.stages, -1))
        if self.conditioned is not None:
            parts = torch.stack(self.conditioned.values(levels), -2)
        else:
            parts = (2 * levels / (self.packing.sizes - 1) - 1) * self.inner.scales  # each spans [-1, 1]
        return (parts if kept is None else torch.where(kept.movedim(0, 2), parts, 0.0)).sum(-2)

    def try_out(self, features: Tensor) -> None:
        self._settle(features, apart=False)

    def refine(self, features: Tensor) -> None:
        self._settle(features, apart=True)

    def _settle(self, features: Tensor, apart: bool) -> None:
        if self.conditioned is not None:
            low = self.project_in(features)
            self.conditioned.settle(self._clamp(low), low, apart)

    @property
    def steps(self) -> tuple[tuple[int, ...], ...]:
        return tuple((level**self.config.stages,) for level in self.config.levels)

    def factors(self, codes: Tensor) -> Tensor:
        return self.packing.unpack(codes.unsqueeze(-1)).flatten(-2)

    def surrogate(self, features: Tensor) -> Tensor:
        return self.project_out(self._clamp(self.project_in(features)))

    def _clamp(self, low: Tensor) -> Tensor:
        """What the library does to its input: a soft clamp at half a cell beyond the outer levels."""
        return torch.tanh(low / self.reach) * self.reach
