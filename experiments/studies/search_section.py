"""The section `search` of a study: what to search, how long, and for what."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from experiments.studies.fields import Bits, Label, Number, Once, Options, Section, Steps, Whole

MOST_COMBINATIONS = 1_000_000  # of the options of a family
_MOST_SAMPLER_SEED = 40_000  # beyond it, the seeds of single trials leave the 32 bits of numpy's RandomState


class SearchSpace(Section):
    """Choices of `codecbench search` at its budget of bits; the defaults of the rest stand."""

    tilings: Annotated[tuple[Literal["hex", "rect", "rhombic"], ...], Once] = Field(
        default=("hex", "rect", "rhombic"), description="planar grids"
    )
    lattices: Annotated[tuple[str, ...], Once, Field(max_length=100)] = Field(
        default=(), description="lattices beyond the plane: `Z`, `A2`, `A3*`, `D4`, `E8`, `Leech`"
    )
    channels: Annotated[tuple[Annotated[int, Whole, Field(ge=1, le=64)], ...], Once, Field(min_length=1)] = (
        Field(
            default=(4, 6, 8),
            description="of the bottleneck; planar grids take even numbers, lattices multiples of "
            "their dimension",
        )
    )
    levels: tuple[Annotated[int, Whole, Field(ge=2, le=64)], Annotated[int, Whole, Field(ge=2, le=64)]] = (
        Field(default=(3, 15), description="fewest and most along each axis of a pair")
    )
    uneven: Annotated[float, Number, Field(gt=0, le=100)] = Field(
        default=1.5,
        description="bits that a pair may have more or less than an equal share, and one axis of it "
        "more than the other",
    )
    range: Annotated[tuple[str, ...], Once, Field(min_length=1, max_length=100)] = Field(
        default=("cell", "edge"), description="what tanh spans"
    )
    gradient: Annotated[tuple[str, ...], Once, Field(min_length=1, max_length=100)] = Field(
        default=("unit",), description="estimators of the gradient"
    )
    spread: tuple[
        Annotated[float, Number, Field(ge=0.1, le=10)], Annotated[float, Number, Field(ge=0.1, le=10)]
    ] = Field(default=(0.7, 1.4), description="least and most, as a factor on what tanh spans")

    @model_validator(mode="after")
    def _in_order(self) -> "SearchSpace":
        for name, (low, high) in (("levels", self.levels), ("spread", self.spread)):
            if low > high:
                raise ValueError(f"{name} is [least, most]; {low} is more than {high}")
        return self


class Pruner(Section):
    """Stop a trial whose validation loss is above a percentile of earlier trials at the same step."""

    percentile: Annotated[float, Number, Field(gt=0, lt=100)] = Field(
        default=50.0, description="of the losses of earlier trials, above which a trial is given up"
    )
    after_trials: Annotated[int, Whole, Field(ge=1, le=100_000)] = Field(
        default=4, description="earlier trials that must have come as far"
    )
    from_step: Steps = Field(default=0, description="step at which it begins")


class Family(Section):
    """A family of quantizers, and the options whose values are tried; the first of each is its default."""

    name: str = Field(description="a registered name, see `codecbench list quantizers`")
    label: Label = Field(default="", description="name of its rows; by default the quantizer's name")
    options: Options = Field(default_factory=dict, description="those that stand in every trial")
    over: Annotated[
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1, max_length=100)]],
        Field(min_length=1, max_length=20),
    ] = Field(description="values of each option to choose from, the first of each by default")

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
    """A search for the quantizer, at a budget of bits."""

    trials: Annotated[int, Whole, Field(ge=1, le=100_000)] = Field(
        default=24,
        description="full trainings that each sampler may spend, in training steps: with `pruner` it tries "
        "more bottlenecks than that",
    )
    batch: Annotated[int, Whole, Field(ge=1, le=1000)] = Field(
        default=4, description="trials that are chosen before the outcome of any of them is known"
    )
    bits: Bits | None = Field(default=None, description="a frame; by default those of the study")
    space: SearchSpace = Field(default=SearchSpace(), description="what is chosen from")
    families: Annotated[tuple[Family, ...], Field(max_length=100)] = Field(
        default=(),
        description="families that are tuned alike, in place of `space`, see "
        "[equal tuning](#equal-tuning-of-families)",
    )
    objectives: Annotated[tuple[str, ...], Field(min_length=1, max_length=20)] = Field(
        default=("validation/loss", "rate/bits_per_frame"),
        description="metrics of a run to make small, the first one the quality",
    )
    pruner: Pruner | None = Field(default=Pruner(), description="`null`: every trial is trained to its end")
    seeds: Annotated[
        tuple[Annotated[int, Whole, Field(ge=0, le=_MOST_SAMPLER_SEED)], ...],
        Once,
        Field(min_length=1, max_length=1000),
    ] = Field(default=(0,), description="of the samplers; the trainings have the study's first seed")

    @field_validator("families")
    @classmethod
    def _told_apart(cls, families: tuple[Family, ...]) -> tuple[Family, ...]:
        rows = [family.row for family in families]
        if twice := sorted({row for row in rows if rows.count(row) > 1}):
            raise ValueError(f"two families are called {twice[0]!r}; tell them apart by label")
        return families

    @field_validator("objectives")
    @classmethod
    def _not_of_the_test_set(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not name.startswith(("validation/", "rate/", "cost/")):
                raise ValueError(f"{name} is not an objective: they begin with validation/, rate/ or cost/")
        if len(set(names)) < len(names):
            raise ValueError("an objective stands twice in objectives")
        return names
