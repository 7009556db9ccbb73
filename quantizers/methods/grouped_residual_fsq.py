"""Grouped residual FSQ: the features in groups, each with a residual FSQ of its own (GroupedResidualFSQ of
vector-quantize-pytorch, used by ChatTTS)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from quantizers.contract import Quantized, Quantizer
from quantizers.methods.residual_fsq import ResidualFSQ, ResidualFSQConfig
from quantizers.option_checks import QuantizerError, check_count
from quantizers.parts.stage_dropout import kept_stages
from quantizers.parts.straight_through import zero_loss
from quantizers.rates import BITS_PER_CHANNEL, TOLERANCE, check_bits


@dataclass(frozen=True, kw_only=True)
class GroupedResidualFSQConfig(ResidualFSQConfig):
    """Options of `grouped-residual-fsq`, besides those of `residual-fsq`, which are the same in every group.

    groups: groups of features of equal size. There are groups * stages token streams.
    """

    groups: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("groups", self.groups)


class GroupedResidualFSQ(Quantizer):
    """Residual FSQ in each group of features; streams are group 0 stage 0, group 0 stage 1, and so on."""

    config_class = GroupedResidualFSQConfig
    family = "scalar"
    paper = "arXiv 2309.15505"
    fit_options = ("channels",)
    config: GroupedResidualFSQConfig

    def __init__(self, dim: int, config: GroupedResidualFSQConfig) -> None:
        super().__init__(dim, config)
        if dim % config.groups:
            raise QuantizerError(f"{config.groups} groups do not divide the {dim} channels; choose a divisor")
        shared = {field.name: getattr(config, field.name) for field in fields(ResidualFSQConfig)}
        self.groups = nn.ModuleList(
            ResidualFSQ(dim // config.groups, ResidualFSQConfig(**shared)) for _ in range(config.groups)
        )
        self.codebook_sizes = tuple(size for group in self._groups for size in group.codebook_sizes)

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        groups = options.get("groups", 2 if bits >= 8 else 1)
        check_count("groups", groups)
        rest = {name: value for name, value in options.items() if name != "groups"}
        check_bits(bits)
        found = ResidualFSQ.fit(bits / groups, rest)
        if (
            "channels" not in rest
        ):  # groups are small: an even number of channels, as elsewhere, may be too few
            several = {**rest, "channels": max(1, round(bits / groups / BITS_PER_CHANNEL))}
            tried = ResidualFSQ.fit(bits / groups, several)
            spent = groups * tried["stages"] * math.log2(math.prod(tried["levels"]))
            found = tried if abs(spent / bits - 1) <= TOLERANCE else found
        return {**found, "groups": groups}

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        return tuple(size for group in self._groups for size in group.factor_sizes)

    @property
    def _groups(self) -> list[ResidualFSQ]:
        return cast(list[ResidualFSQ], list(self.groups))

    def initialise(self, features: Tensor) -> None:
        """Each group starts from its own features, as `residual-fsq` does."""
        for group, part in zip(self._groups, self._split(features), strict=True):
            group.initialise(part)

    @classmethod
    def depth_of(cls, config: GroupedResidualFSQConfig) -> int:
        """Stages of each group."""
        return config.stages

    def cut(self, stages: int) -> Quantizer:
        part = type(self)(self.dim, replace(self.config, stages=stages))
        part.groups = nn.ModuleList(group.prefix(stages) for group in self._groups)
        return part

    def quantize(self, features: Tensor) -> Quantized:
        dropout = self.config.dropout if self.training and features.numel() else 0.0
        kept = kept_stages(len(features), self.config.stages, dropout, features.device)
        if kept is not None:  # the same in all groups
            split = zip(self._groups, self._split(features), strict=True)
            values, codes = zip(*(group.of_stages(part, kept) for group, part in split), strict=True)
            return Quantized(torch.cat(values, -1), torch.cat(codes, -1), zero_loss(features), {})
        parts = [
            group.quantize(part) for group, part in zip(self._groups, self._split(features), strict=True)
        ]
        joined = torch.cat([part.features for part in parts], -1)
        return Quantized(joined, torch.cat([part.codes for part in parts], -1), zero_loss(features), {})

    def lookup(self, codes: Tensor) -> Tensor:
        return torch.cat(
            [group.decode(part) for group, part in zip(self._groups, self._split(codes), strict=True)], -1
        )

    def factors(self, codes: Tensor) -> Tensor:
        return torch.cat(
            [group.factors(part) for group, part in zip(self._groups, self._split(codes), strict=True)], -1
        )

    def surrogate(self, features: Tensor) -> Tensor:
        return torch.cat(
            [group.surrogate(part) for group, part in zip(self._groups, self._split(features), strict=True)],
            -1,
        )

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.chunk(self.config.groups, dim=-1)
