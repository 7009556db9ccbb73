"""The section `train` of a study: the objective, the optimizer, the schedule."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from codec import weights as released
from codec.losses import objectives
from experiments.common import tensor_files
from experiments.studies.fields import (
    MOST_BATCH,
    MOST_CORPUS,
    MOST_CROP_SECONDS,
    MOST_RATE,
    MOST_STEP_SECONDS,
    Beta,
    Count,
    Number,
    Options,
    Parts,
    Rate,
    Section,
    Steps,
    Switch,
    Whole,
)

if TYPE_CHECKING:
    from codec.losses.objectives import Objective

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
# What runs did before these keys were there: left out of an identity, so that finished runs keep theirs.
_BEFORE: Mapping[str, Any] = {
    "start": "random",
    "freeze": [],
    "freeze_steps": None,
    "decay_at": [],
    "decay_share": 0.2,
    "tf32": False,
}
# What of the training section does not decide the result, and so is not part of a run's identity.
TRAIN_BOOKKEEPING = ("log_every", "validate_every", "checkpoint_every", "cudnn_benchmark", "deterministic")


def _last_budget(value: Mapping[str, Any]) -> dict[str, Any]:
    """`steps` where only the budgets are given."""
    budgets = value.get("decay_at")
    return {"steps": budgets[-1]} if isinstance(budgets, list | tuple) and budgets else {}


class WarmStart(Section):
    """The trained backbone that every bottleneck starts from: one of three."""

    steps: Count | None = Field(
        default=None, description="train the backbone for so many updates without a quantizer, once a seed"
    )
    weights: str | None = Field(
        default=None, description="released weights, see `codecbench weights`, such as `soundstream`"
    )
    checkpoint: Annotated[str, Field(max_length=MOST_CORPUS)] | None = Field(
        default=None,
        description="path of a checkpoint: `codec.safetensors` of a run, or a released WavTokenizer or Q2D2 "
        "checkpoint, whose quantizer is replaced",
    )

    @model_validator(mode="after")
    def _one_of_three(self) -> "WarmStart":
        given = [name for name in ("steps", "weights", "checkpoint") if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "nothing"
            raise ValueError(f"give one of steps, weights and checkpoint, not {said}")
        if self.weights is not None:
            released.get(self.weights)
        if self.checkpoint is not None and (fault := tensor_files.fault_of_format(Path(self.checkpoint))):
            raise ValueError(f"{self.checkpoint!r} is no checkpoint: {fault}; correct the path")
        return self

    def identity(self) -> dict[str, Any]:
        """What decides the trained weights: contents, not names of files."""
        if self.weights is not None:
            return {"weights": self.weights, "content": released.content_hash(self.weights)}
        if self.checkpoint is not None:
            path = Path(self.checkpoint)
            return {"checkpoint": _file_hash(path, path.stat().st_mtime_ns)}
        return {"steps": self.steps}


@cache
def _file_hash(path: Path, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ObjectiveChoice(Section):
    """Objective of a training: a set of weights of `codec.objectives`, in one word, and those that the
    study changes. Afterwards `options` holds every weight."""

    name: str = Field(default="spectral", description="`spectral`, `vocos` or `wavtokenizer`")
    options: Options = Field(default_factory=dict, description="weights that differ from those of the name")

    @model_validator(mode="before")
    @classmethod
    def _every_weight(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            return value
        given = {} if value.get("options") is None else value["options"]
        if not isinstance(given, dict):
            raise ValueError("options: give weights by name, such as {log_mel: 15}")
        weights = objectives.get(str(value.get("name", "spectral")), given)
        return {**value, "options": json.loads(json.dumps(dataclasses.asdict(weights)))}

    def objective(self) -> "Objective":
        """The weights."""
        return objectives.get(self.name, self.options)


class Train(Section):
    """Training of every bottleneck."""

    steps: Steps = Field(default=300, description="updates of the codec; 0 evaluates it as it starts")
    objective: ObjectiveChoice = Field(
        default_factory=lambda: ObjectiveChoice.model_validate("spectral"),
        description="the terms of the loss and their weights, see [below](#objectives)",
    )
    batch_size: Annotated[int, Whole, Field(ge=1, le=MOST_BATCH)] = Field(
        default=8, description="crops a step, of all processes together"
    )
    accumulate: Parts = Field(
        default=1,
        description="parts in which a step's crops are computed one after the other, to save memory; they "
        "divide `batch_size`. Gradients add up; codebooks move once a step. `auto`: as few as the memory of "
        "the device allows, see [below](#memory); a run's identity takes it for 1",
    )
    crop_seconds: Annotated[float, Number, Field(gt=0, le=MOST_CROP_SECONDS)] = Field(
        default=0.5,
        description="seconds of audio a crop: longer than half of the objective's longest window, and "
        f"{MOST_STEP_SECONDS:,.0f} s at most for all crops of a step",
    )
    optimizer: Literal["muon", "adamw"] = Field(
        default="muon",
        description="`muon`: Muon for the hidden matrices of ConvNeXt layers, AdamW for the rest. "
        "`adamw`: AdamW for all",
    )
    learning_rate: Rate = Field(default=8e-3, description="of AdamW")
    matrix_learning_rate: Rate = Field(default=4e-2, description="of Muon")
    betas: tuple[Beta, Beta] = Field(default=(0.9, 0.999), description="of AdamW")
    weight_decay: Annotated[float, Number, Field(ge=0, le=MOST_RATE)] = Field(
        default=0.01, description="of AdamW, Muon and the discriminators"
    )
    discriminator_learning_rate: Rate = Field(default=2e-4, description="of the discriminators' own AdamW")
    discriminator_betas: tuple[Beta, Beta] = Field(
        default=(0.8, 0.99), description="of the discriminators' own AdamW"
    )
    schedule: Literal["linear", "cosine"] = Field(
        default="linear", description="how all learning rates fall: `linear`, or `cosine`, half a period"
    )
    warmup_steps: Steps = Field(default=30, description="steps over which they rise first")
    final_learning_rate: Annotated[float, Number, Field(ge=0, le=1)] = Field(
        default=0.05, description="share of the learning rate that is left in the end"
    )
    decay_at: tuple[Count, ...] = Field(
        default=(),
        description="budgets in steps, rising, the last one equal to `steps`. The learning rate stays "
        "constant after its rise; for each budget it falls over the last steps before it, off the same "
        "training. The weights at every budget are scored, see [below](#budgets). It takes the place of "
        "`schedule`",
    )
    decay_share: Annotated[float, Number, Field(gt=0, le=1)] = Field(
        default=0.2, description="share of a budget's steps over which the learning rate falls"
    )
    gradient_clip: Annotated[float, Number, Field(gt=0, le=1e9)] | None = Field(
        default=5.0,
        description="largest norm of the gradient, of the codec and of the discriminators each; "
        "`null`: no limit",
    )
    ema_decay: Annotated[float, Number, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="decay of a moving average of all weights and codebooks, which is what is validated, "
        "evaluated and kept; 0: none. After t steps it is at most (1 + t) / (10 + t)",
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto",
        description="of the network's blocks, by autocast; `fp16` with a scaled loss. `auto`: bf16 where the "
        "device computes in it, else fp32; tables say so where rows differ in it. Weights, the quantizer and "
        "the spectral losses are fp32 always",
    )
    compile: Switch = Field(
        default=False,
        description="compile encoder, decoder and discriminators. Results differ in the last bits, so it is "
        "part of a run's identity",
    )
    tf32: Switch = Field(
        default=False,
        description="compute what is in fp32 with a mantissa of 10 bits (TF32) on a GPU. Part of a run's "
        "identity. Evaluation never does it",
    )
    cudnn_benchmark: Switch = Field(
        default=False,
        description="let cuDNN time its algorithms on a GPU and take the fastest. Last bits may differ from "
        "one start to the next; no part of a run's identity",
    )
    deterministic: Switch = Field(
        default=False,
        description="compute the same bits each time on the same GPU, more slowly, see "
        "[below](#the-same-numbers-again). A CPU does that anyway; no part of a run's identity",
    )
    warm_start: WarmStart | None = Field(
        default=None,
        description="a backbone that was trained before: `{steps: N}` without quantization in this study, "
        "`{weights: NAME}` released by others, or `{checkpoint: PATH}`. Every bottleneck starts from it",
    )
    start: Literal["data", "random"] = Field(
        default="random",
        description="of the quantizer. `data`: from features of training audio, before the first step "
        "(principal components, k-means); the default with a `warm_start`. `random`: the default without",
    )
    freeze: tuple[Literal["encoder", "decoder"], ...] = Field(
        default=(), description="parts that the training leaves as they are"
    )
    freeze_steps: Count | None = Field(
        default=None, description="steps for which `freeze` holds; `null`: for good"
    )
    log_every: Count = Field(default=10, description="steps; no part of a run's identity")
    validate_every: Count = Field(default=100, description="steps; no part of a run's identity")
    checkpoint_every: Count = Field(default=50, description="steps; no part of a run's identity")
    non_finite_limit: Annotated[int, Whole, Field(ge=1, le=1_000_000)] = Field(
        default=10,
        description="steps in a row whose loss or gradient is not finite, at which a run has diverged, see "
        "[below](#when-something-goes-wrong)",
    )

    @model_validator(mode="before")
    @classmethod
    def _recipe(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        objective = value.get("objective", "spectral")
        name = objective.get("name") if isinstance(objective, dict) else objective
        start = "random" if value.get("warm_start") is None else "data"
        return {"start": start, **RECIPES.get(str(name), {}), **_last_budget(value), **value}

    def identity(self) -> dict[str, Any]:
        """What decides the trained weights. Keys that came later are left out at what was done before."""
        values = self.model_dump(mode="json", exclude=set(TRAIN_BOOKKEEPING))
        if self.accumulate == "auto":  # one batch, however it is computed
            values["accumulate"] = 1
        if self.warm_start is not None:
            values["warm_start"] = self.warm_start.identity()
        for name, before in _BEFORE.items():
            if values[name] == before:
                del values[name]
        return values

    @model_validator(mode="after")
    def _budgets(self) -> "Train":
        budgets = self.decay_at
        if not budgets:
            return self
        if any(later <= budget for budget, later in itertools.pairwise(budgets)):
            raise ValueError(f"decay_at: {list(budgets)} do not rise; give each budget once, in order")
        if budgets[-1] != self.steps:
            raise ValueError(
                f"decay_at: the last budget is {budgets[-1]}, and steps is {self.steps}; make them equal"
            )
        if (start := self.decay_start(budgets[0])) < self.warmup_steps:
            raise ValueError(
                f"decay_at: for the budget {budgets[0]} the learning rate would fall from step {start} on, "
                f"and it rises until step {self.warmup_steps}; give a larger budget, or fewer warmup_steps"
            )
        return self

    def decay_start(self, budget: int) -> int:
        """Number of finished steps after which the learning rate falls for `budget`."""
        return budget - max(1, round(self.decay_share * budget))

    @property
    def computed_steps(self) -> int:
        """All steps of the training, those of decays to earlier budgets included."""
        return self.steps + sum(budget - self.decay_start(budget) for budget in self.decay_at[:-1])

    @model_validator(mode="after")
    def _parts_and_seconds(self) -> "Train":
        if self.accumulate != "auto" and self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        if self.deterministic and self.cudnn_benchmark:
            raise ValueError(
                "deterministic and cudnn_benchmark exclude each other: what is fastest differs from one "
                "start to the next; leave one out"
            )
        if len(set(self.freeze)) < len(self.freeze):
            raise ValueError("freeze: a part stands twice; leave one out")
        if self.freeze_steps is not None and not self.freeze:
            raise ValueError("freeze_steps is only meaningful together with freeze")
        if (seconds := self.batch_size * self.crop_seconds) > MOST_STEP_SECONDS:
            raise ValueError(
                f"batch_size x crop_seconds is {seconds:,.0f} s of audio a step, more than "
                f"{MOST_STEP_SECONDS:,.0f} s; lower one of them"
            )
        return self
