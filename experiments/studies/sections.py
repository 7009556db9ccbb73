"""The sections of a study: models of a quantizer, the data, the training, the evaluation and a search."""

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from codec import references
from codec.losses import objectives
from experiments import metrics

if TYPE_CHECKING:
    from codec.losses.objectives import Objective


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QuantizerChoice(Section):
    """A registered quantizer and its options. `label` names its row; `bits` overrides the study's."""

    name: str
    label: str = ""
    bits: Annotated[float, Field(gt=0)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def row(self) -> str:
        """The label of its row."""
        return self.label or self.name


class ReferenceChoice(Section):
    """A codec from outside, or a control, beside the quantizers. In one word: NAME, or NAME:OPTION.

    `label` names its row.
    """

    name: str
    label: str = ""
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _in_one_word(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value

        name, options = references.parse(value)
        return {"name": name, "options": options}

    @model_validator(mode="after")
    def _known(self) -> "ReferenceChoice":
        assert self.row
        return self

    @property
    def row(self) -> str:
        """The label of its row. Raises ReferenceCodecError for a codec that there is not."""
        return references.create(self.name, self.options).label if not self.label else self.label


class BackboneChoice(Section):
    """A named backbone, and fields of it that this study changes."""

    name: str = "mdct-tiny"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Data(Section):
    """corpus: demo, folder:PATH, manifest:PATH, filelist:PATH, librispeech:SUBSETS or libritts:SUBSETS."""

    corpus: str = "demo"

    @model_validator(mode="before")
    @classmethod
    def _corpus_alone(cls, value: Any) -> Any:
        return {"corpus": value} if isinstance(value, str) else value


class WarmStart(Section):
    """Train the backbone once without quantization, then every bottleneck from those weights."""

    steps: Annotated[int, Field(ge=1)]


class ObjectiveChoice(Section):
    """What a codec is trained for: a set of weights of `codec.objectives`, in one word, and those that the
    study changes. Afterwards `options` holds every weight."""

    name: str = "spectral"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _every_weight(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            return value

        given = value.get("options") or {}
        weights = objectives.get(str(value.get("name", "spectral")), given if isinstance(given, dict) else {})
        return {**value, "options": json.loads(json.dumps(dataclasses.asdict(weights)))}

    def objective(self) -> "Objective":
        """The weights."""
        return objectives.get(self.name, self.options)


# How the released codecs were optimized (Siuzdak 2023, arXiv 2306.00814; Ji et al. 2024, 2408.16532).
_AS_RELEASED = {
    "optimizer": "adamw",
    "learning_rate": 2e-4,
    "betas": (0.9, 0.999),
    "discriminator_learning_rate": 2e-4,
    "discriminator_betas": (0.9, 0.999),
    "schedule": "cosine",
    "warmup_steps": 0,
    "final_learning_rate": 0.0,
    "gradient_clip": None,
}
# What an objective changes of the training section's defaults.
RECIPES: Mapping[str, Mapping[str, Any]] = {"vocos": _AS_RELEASED, "wavtokenizer": _AS_RELEASED}

Beta = Annotated[float, Field(ge=0, lt=1)]


class Train(Section):
    """How every bottleneck is trained.

    objective: spectral, vocos or wavtokenizer, or {name, options}; the last two change defaults below to
    `RECIPES`. batch_size: crops a step, of all processes and of all `accumulate` parts that are computed one
    after the other. crop_seconds: seconds of audio a crop. learning_rate: of AdamW. matrix_learning_rate: of
    Muon, which updates the hidden matrices (optimizer: muon). All learning rates rise over `warmup_steps`,
    then fall along a line or half a cosine to `final_learning_rate` of themselves. gradient_clip: norm, or
    null for none. ema_decay: of the moving average of weights, which is what is evaluated; 0: none.
    precision: of the network's blocks; the quantizer is always fp32; auto means bf16 where the device has it.
    compile: the network's blocks, by torch.compile; results differ in the last bits. warm_start: of the
    backbone. The intervals are in steps. non_finite_limit: steps in a row whose loss or gradient is not
    finite, at which a run has diverged.
    """

    steps: Annotated[int, Field(ge=1)] = 300
    objective: ObjectiveChoice = Field(default_factory=lambda: ObjectiveChoice.model_validate("spectral"))
    batch_size: Annotated[int, Field(ge=1)] = 8
    accumulate: Annotated[int, Field(ge=1)] = 1
    crop_seconds: Annotated[float, Field(gt=0)] = 0.5
    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: Annotated[float, Field(gt=0)] = 8e-3
    matrix_learning_rate: Annotated[float, Field(gt=0)] = 4e-2
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    discriminator_learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    discriminator_betas: tuple[Beta, Beta] = (0.8, 0.99)
    schedule: Literal["linear", "cosine"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 30
    final_learning_rate: Annotated[float, Field(ge=0, le=1)] = 0.05
    gradient_clip: Annotated[float, Field(gt=0)] | None = 5.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    compile: bool = False
    warm_start: WarmStart | None = None
    log_every: Annotated[int, Field(ge=1)] = 10
    validate_every: Annotated[int, Field(ge=1)] = 100
    checkpoint_every: Annotated[int, Field(ge=1)] = 50
    non_finite_limit: Annotated[int, Field(ge=1)] = 10

    @model_validator(mode="before")
    @classmethod
    def _recipe(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        objective = value.get("objective", "spectral")
        name = objective.get("name") if isinstance(objective, dict) else objective
        return {**RECIPES.get(str(name), {}), **value}

    @model_validator(mode="after")
    def _equal_parts(self) -> "Train":
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        return self


# What of the training section does not decide the result, and so is not part of a run's identity.
TRAIN_BOOKKEEPING = ("log_every", "validate_every", "checkpoint_every")


def _usable(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        metrics.get(name).require()
    return names


Metrics = Annotated[tuple[str, ...], AfterValidator(_usable)]


class Robustness(Section):
    """Severities of each disturbance, on `utterances` of the test split; `metrics`: those of the study.

    flips: percent of codes replaced. drops: percent of frames lost. shuffles: percent of frames that change
    places. reencodings: times coded again. noise: signal-to-noise ratios in dB. gain: dB.
    """

    flips: tuple[Annotated[float, Field(gt=0, le=100)], ...] = ()
    drops: tuple[Annotated[float, Field(gt=0, le=100)], ...] = ()
    shuffles: tuple[Annotated[float, Field(gt=0, le=100)], ...] = ()
    reencodings: tuple[Annotated[int, Field(ge=1, le=10)], ...] = ()
    noise: tuple[Annotated[float, Field(ge=-20, le=100)], ...] = ()
    gain: tuple[Annotated[float, Field(ge=-80, le=80)], ...] = ()
    metrics: Metrics = ()
    utterances: Annotated[int, Field(ge=1)] = 20


class Evaluate(Section):
    """metrics: scored on the whole test split. audio_examples: pairs kept in the tracking store,
    spread evenly over it; reports choose the best, worst and most different of them to listen to.

    snapshots: how many times while training the latents of fixed crops are kept, for figures; the first is of
    the start, the last of the end, and those between are closer together early on. 0 keeps none.

    bit_exact: codes alone must decode to the forward pass's features in fp32, always; bf16 checks it with
    the encoder in bf16, too, and counts the codes that differ from those of fp32.
    """

    metrics: Metrics = metrics.STANDARD
    audio_examples: Annotated[int, Field(ge=0)] = 8
    snapshots: Annotated[int, Field(ge=0, le=1000)] = 8
    robustness: Robustness | None = None
    bit_exact: Literal["fp32", "bf16"] = "fp32"


class SearchSpace(Section):
    """What `codecbench search` chooses from, at its budget of bits; the defaults of the rest stand.

    channels: all of them; planar grids take even numbers, lattices multiples of their dimension. levels:
    fewest and most along each axis of a pair. uneven: bits that a pair may have more or less than an equal
    share, and one axis of it more than the other. spread: least and most, as a factor on what tanh spans.
    """

    tilings: tuple[Literal["hex", "rect", "rhombic"], ...] = ("hex", "rect", "rhombic")
    lattices: tuple[str, ...] = ()
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1)] = (4, 6, 8)
    levels: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(le=64)]] = (3, 15)
    uneven: Annotated[float, Field(gt=0)] = 1.5
    range: Annotated[tuple[str, ...], Field(min_length=1)] = ("cell", "edge")
    gradient: Annotated[tuple[str, ...], Field(min_length=1)] = ("unit",)
    spread: tuple[Annotated[float, Field(ge=0.1)], Annotated[float, Field(le=10)]] = (0.7, 1.4)

    @model_validator(mode="after")
    def _in_order(self) -> "SearchSpace":
        for name, (low, high) in (("levels", self.levels), ("spread", self.spread)):
            if low > high:
                raise ValueError(f"{name} is [least, most]; {low} is more than {high}")
        return self


class Pruner(Section):
    """Stop a trial whose validation loss is above the `percentile` of earlier trials at the same step.

    It needs `after_trials` earlier ones that came as far, and begins at `from_step`.
    """

    percentile: Annotated[float, Field(gt=0, lt=100)] = 50.0
    after_trials: Annotated[int, Field(ge=1)] = 4
    from_step: Annotated[int, Field(ge=0)] = 0


class Search(Section):
    """A search for the quantizer, at `bits` a frame (the study's).

    trials: how many full trainings each sampler may spend, in training steps: with `pruner` it tries more
    bottlenecks than that. objectives: metrics of a run to make small, the first one the quality. seeds: of
    the samplers; the trainings have the study's first seed. batch: trials that are chosen before the outcome
    of any of them is known.
    """

    trials: Annotated[int, Field(ge=1)] = 24
    batch: Annotated[int, Field(ge=1)] = 4
    bits: Annotated[float, Field(gt=0)] | None = None
    space: SearchSpace = SearchSpace()
    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = ("validation/loss", "rate/bits_per_frame")
    pruner: Pruner | None = Pruner()
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)

    @field_validator("objectives")
    @classmethod
    def _not_of_the_test_set(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not name.startswith(("validation/", "rate/", "cost/")):
                raise ValueError(f"{name} is not an objective: they begin with validation/, rate/ or cost/")
        if len(set(names)) < len(names):
            raise ValueError("an objective stands twice in objectives")
        return names
