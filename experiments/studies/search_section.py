"""The section `search` of a study: search space, number of trials, objectives."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from experiments.studies.fields import Bits, Label, Number, Once, Options, Section, Steps, Whole

MOST_COMBINATIONS = 1_000_000  # of the options of a family
_MOST_SAMPLER_SEED = 40_000  # beyond it, the seeds of single trials leave the 32 bits of numpy's RandomState


class SearchSpace(Section):
    """Options that `codecbench search` chooses at a fixed number of bits; all others keep their defaults."""

    tilings: Annotated[tuple[Literal["hex", "rect", "rhombic"], ...], Once] = Field(
        default=("hex", "rect", "rhombic"), description="planar grids to try"
    )
    lattices: Annotated[tuple[str, ...], Once, Field(max_length=100)] = Field(
        default=(), description="lattices to try: `Z`, `A2`, `A3*`, `D4`, `E8`, `Leech`"
    )
    channels: Annotated[tuple[Annotated[int, Whole, Field(ge=1, le=64)], ...], Once, Field(min_length=1)] = (
        Field(
            default=(4, 6, 8),
            description="numbers of channels of the bottleneck to try; planar grids take even numbers, "
            "lattices multiples of their dimension",
        )
    )
    levels: tuple[Annotated[int, Whole, Field(ge=2, le=64)], Annotated[int, Whole, Field(ge=2, le=64)]] = (
        Field(default=(3, 15), description="smallest and largest number of levels per axis of a pair")
    )
    uneven: Annotated[float, Number, Field(gt=0, le=100)] = Field(
        default=1.5,
        description="largest allowed imbalance in bits: of a pair against an equal share, and between the "
        "two axes of a pair",
    )
    range: Annotated[tuple[str, ...], Once, Field(min_length=1, max_length=100)] = Field(
        default=("cell", "edge"), description="values of the option `range` to try, see quantizers.md"
    )
    gradient: Annotated[tuple[str, ...], Once, Field(min_length=1, max_length=100)] = Field(
        default=("unit",), description="values of the option `gradient` to try, see quantizers.md"
    )
    spread: tuple[
        Annotated[float, Number, Field(ge=0.1, le=10)], Annotated[float, Number, Field(ge=0.1, le=10)]
    ] = Field(
        default=(0.7, 1.4),
        description="smallest and largest value of the option `spread`, a factor on the range of the grid",
    )

    @model_validator(mode="after")
    def _in_order(self) -> "SearchSpace":
        for name, (low, high) in (("levels", self.levels), ("spread", self.spread)):
            if low > high:
                raise ValueError(f"{name} is [least, most]; {low} is more than {high}")
        return self


class Pruner(Section):
    """Stop a trial whose validation loss is above a percentile of earlier trials at the same step."""

    percentile: Annotated[float, Number, Field(gt=0, lt=100)] = Field(
        default=50.0,
        description="percentile of the losses of earlier trials; a trial with a higher loss is stopped",
    )
    after_trials: Annotated[int, Whole, Field(ge=1, le=100_000)] = Field(
        default=4, description="number of earlier trials that must have reached the same step"
    )
    from_step: Steps = Field(default=0, description="first step at which trials are stopped")


class Family(Section):
    """A quantizer to tune, and the values of its options to try. The first value of each is its default."""

    name: str = Field(description="name of a quantizer, see `codecbench list quantizers`")
    label: Label = Field(default="", description="name of its rows; default: the quantizer's name")
    options: Options = Field(default_factory=dict, description="options that are the same in every trial")
    over: Annotated[
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1, max_length=100)]],
        Field(min_length=1, max_length=20),
    ] = Field(description="values to try for each option; the first one is the default")

    @model_validator(mode="after")
    def _apart(self) -> "Family":
        if twice := sorted(set(self.options) & set(self.over)):
            raise ValueError(f"{twice[0]} is both in options and in over; leave it out of one of them")
        if (number := math.prod(map(len, self.over.values()))) > MOST_COMBINATIONS:
            raise ValueError(f"over makes {number:,} combinations, more than {MOST_COMBINATIONS:,}")
        return self

    @property
    def row(self) -> str:
        """What its rows are called."""
        return self.label or self.name


class Search(Section):
    """A search for the best quantizer at a fixed number of bits per frame."""

    trials: Annotated[int, Whole, Field(ge=1, le=100_000)] = Field(
        default=24,
        description="training budget of each sampler, in full trainings. With `pruner` a sampler tries more "
        "quantizers than that, because it stops some of them early",
    )
    batch: Annotated[int, Whole, Field(ge=1, le=1000)] = Field(
        default=4, description="number of trials that are chosen together and run in parallel"
    )
    bits: Bits | None = Field(default=None, description="bits per frame; default: those of the study")
    space: SearchSpace = Field(default=SearchSpace(), description="the search space")
    families: Annotated[tuple[Family, ...], Field(max_length=100)] = Field(
        default=(),
        description="quantizers that are tuned with equal effort; replaces `space`, see "
        "[equal tuning](#equal-tuning-of-families)",
    )
    objectives: Annotated[tuple[str, ...], Field(min_length=1, max_length=20)] = Field(
        default=("validation/loss", "rate/bits_per_frame"),
        description="metrics of a run to minimise; the first one measures quality",
    )
    pruner: Pruner | None = Field(
        default=Pruner(), description="rule that stops bad trials early; `null`: train every trial to its end"
    )
    seeds: Annotated[
        tuple[Annotated[int, Whole, Field(ge=0, le=_MOST_SAMPLER_SEED)], ...],
        Once,
        Field(min_length=1, max_length=1000),
    ] = Field(
        default=(0,), description="seeds of the samplers; all trainings use the first seed of the study"
    )

    @field_validator("families")
    @classmethod
    def _told_apart(cls, families: tuple[Family, ...]) -> tuple[Family, ...]:
        rows = [family.row for family in families]
        if twice := sorted({row for row in rows if rows.count(row) > 1}):
            raise ValueError(f"two families have the label {twice[0]!r}; give one of them another label")
        return families

    @field_validator("objectives")
    @classmethod
    def _not_of_the_test_set(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not name.startswith(("validation/", "rate/", "cost/")):
                raise ValueError(f"{name} is not an objective: they begin with validation/, rate/ or cost/")
        if len(set(names)) < len(names):
            raise ValueError("objectives: an objective is given twice; remove one")
        return names
