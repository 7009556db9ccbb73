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
# Defaults of the training section that an objective changes.
RECIPES: Mapping[str, Mapping[str, Any]] = {"vocos": _AS_RELEASED, "wavtokenizer": _AS_RELEASED}
# Values of later keys that mean the earlier behaviour. An identity leaves them out, so finished runs keep it.
_BEFORE: Mapping[str, Any] = {
    "start": "random",
    "freeze": [],
    "freeze_steps": None,
    "decay_at": [],
    "decay_share": 0.2,
    "rate_weight": 0.0,
    "tf32": False,
}
# Keys of the training section that do not change the result, and so are no part of a run's identity.
TRAIN_BOOKKEEPING = ("log_every", "validate_every", "checkpoint_every", "cudnn_benchmark", "deterministic")


def _last_budget(value: Mapping[str, Any]) -> dict[str, Any]:
    """`steps` where only the budgets are given."""
    budgets = value.get("decay_at")
    return {"steps": budgets[-1]} if isinstance(budgets, list | tuple) and budgets else {}


class WarmStart(Section):
    """The trained backbone from which every row starts. Give one of the three keys."""

    steps: Count | None = Field(
        default=None,
        description="number of updates for which the backbone is first trained without a quantizer, once per "
        "seed",
    )
    weights: str | None = Field(
        default=None, description="name of released weights such as `soundstream`, see `codecbench weights`"
    )
    checkpoint: Annotated[str, Field(max_length=MOST_CORPUS)] | None = Field(
        default=None,
        description="path of a checkpoint: `codec.safetensors` of a run, or a released checkpoint of "
        "WavTokenizer or Q2D2. Its quantizer is replaced",
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
            raise ValueError(f"{self.checkpoint!r} is not a checkpoint: {fault}; correct the path")
        return self

    def identity(self) -> dict[str, Any]:
        """The values that decide the trained weights: contents of files, not their names."""
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
    """The training objective: a named set of loss weights, and the weights that this study changes.

    After the check, `options` holds every weight."""

    name: str = Field(
        default="spectral", description="name of a set of weights: `spectral`, `vocos` or `wavtokenizer`"
    )
    options: Options = Field(
        default_factory=dict, description="loss weights that this study changes, see [below](#objectives)"
    )

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
    """Training of every row of the study."""

    steps: Steps = Field(
        default=300, description="number of updates of the codec; 0: evaluate the codec without training"
    )
    objective: ObjectiveChoice = Field(
        default_factory=lambda: ObjectiveChoice.model_validate("spectral"),
        description="the terms of the loss and their weights, see [below](#objectives)",
    )
    batch_size: Annotated[int, Whole, Field(ge=1, le=MOST_BATCH)] = Field(
        default=8, description="crops per step, summed over all processes"
    )
    accumulate: Parts = Field(
        default=1,
        description="number of parts into which the crops of a step are split to save memory; must divide "
        "`batch_size`. Gradients of the parts are summed, and codebooks are updated once per step. `auto`: "
        "as few parts as the memory allows, see [below](#memory); a run's identity counts it as 1",
    )
    crop_seconds: Annotated[float, Number, Field(gt=0, le=MOST_CROP_SECONDS)] = Field(
        default=0.5,
        description="length of a crop in seconds. It must exceed half of the longest window of the "
        f"objective; all crops of a step together hold at most {MOST_STEP_SECONDS:,.0f} s",
    )
    optimizer: Literal["muon", "adamw"] = Field(
        default="muon",
        description="`muon`: Muon for the hidden matrices of ConvNeXt layers, AdamW for the rest. "
        "`adamw`: AdamW for all",
    )
    learning_rate: Rate = Field(default=8e-3, description="highest learning rate of AdamW")
    matrix_learning_rate: Rate = Field(default=4e-2, description="highest learning rate of Muon")
    betas: tuple[Beta, Beta] = Field(default=(0.9, 0.999), description="the two betas of AdamW")
    weight_decay: Annotated[float, Number, Field(ge=0, le=MOST_RATE)] = Field(
        default=0.01, description="weight decay of AdamW, Muon and the optimizer of the discriminators"
    )
    discriminator_learning_rate: Rate = Field(
        default=2e-4,
        description="highest learning rate of the discriminators, which have an AdamW of their own",
    )
    discriminator_betas: tuple[Beta, Beta] = Field(
        default=(0.8, 0.99), description="the two betas of the AdamW of the discriminators"
    )
    schedule: Literal["linear", "cosine"] = Field(
        default="linear",
        description="decay of all learning rates after the warm-up: `linear`, or `cosine` (half a period)",
    )
    warmup_steps: Steps = Field(
        default=30, description="number of first steps over which all learning rates rise from 0"
    )
    final_learning_rate: Annotated[float, Number, Field(ge=0, le=1)] = Field(
        default=0.05, description="learning rate at the last step, as a fraction of the highest one"
    )
    decay_at: tuple[Count, ...] = Field(
        default=(),
        description="training budgets in steps, in rising order; the last one must equal `steps`. One "
        "training at a constant learning rate branches off before each budget: the branch lowers the "
        "learning rate and ends at the budget. The weights at every budget are scored, see "
        "[below](#budgets). Replaces `schedule`",
    )
    decay_share: Annotated[float, Number, Field(gt=0, le=1)] = Field(
        default=0.2,
        description="fraction of the steps of a budget over which the learning rate falls, with `decay_at`",
    )
    gradient_clip: Annotated[float, Number, Field(gt=0, le=1e9)] | None = Field(
        default=5.0,
        description="largest norm of a gradient; the codec and the discriminators are clipped separately; "
        "`null`: no clipping",
    )
    ema_decay: Annotated[float, Number, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="decay of the exponential moving average of all weights and codebooks. The averaged "
        "weights are validated, evaluated and kept; 0: no average. The decay after t steps is at most "
        "(1 + t) / (10 + t)",
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto",
        description="precision of the network's blocks, by autocast. `auto`: bf16 where the device supports "
        "it, otherwise fp32. `fp16` scales the loss. Weights, the quantizer and the spectral losses are "
        "always in fp32. Tables name the precision where rows differ in it",
    )
    compile: Switch = Field(
        default=False,
        description="`true`: compile encoder, decoder and discriminators. Results differ in the last bits, "
        "so this key is part of a run's identity",
    )
    tf32: Switch = Field(
        default=False,
        description="`true`: compute fp32 operations on a GPU with a mantissa of 10 bits (TF32). This key is "
        "part of a run's identity. Evaluation never uses TF32",
    )
    cudnn_benchmark: Switch = Field(
        default=False,
        description="`true`: cuDNN measures its algorithms on a GPU and takes the fastest. The last bits of "
        "results may differ between starts; no part of a run's identity",
    )
    deterministic: Switch = Field(
        default=False,
        description="`true`: a GPU computes the same bits each time, more slowly, see "
        "[below](#the-same-numbers-again). A CPU always does; no part of a run's identity",
    )
    warm_start: WarmStart | None = Field(
        default=None,
        description="trained backbone from which every row starts: `{steps: N}` trains it in this study "
        "without quantization, `{weights: NAME}` takes released weights, `{checkpoint: PATH}` reads a file",
    )
    start: Literal["data", "random"] = Field(
        default="random",
        description="initialisation of the quantizer. `data`: from features of training audio (principal "
        "components, k-means). `random`: from random numbers. The default is `data` with a `warm_start` and "
        "`random` without",
    )
    freeze: tuple[Literal["encoder", "decoder"], ...] = Field(
        default=(), description="parts whose weights are not trained: `encoder`, `decoder`"
    )
    freeze_steps: Count | None = Field(
        default=None, description="number of first steps for which `freeze` holds; `null`: all steps"
    )
    rate_weight: Annotated[float, Number, Field(ge=0, le=MOST_RATE)] = Field(
        default=0.0,
        description="weight of the rate in entropy-constrained training: loss per bit per frame of the "
        "estimated entropy of the codes, see [below](#entropy-constrained-training); 0: fixed rate. Rows "
        "with a weight are placed by their measured rate",
    )
    log_every: Count = Field(
        default=10, description="steps between logged training losses; no part of a run's identity"
    )
    validate_every: Count = Field(
        default=100, description="steps between validations; no part of a run's identity"
    )
    checkpoint_every: Count = Field(
        default=50, description="steps between checkpoints for resuming; no part of a run's identity"
    )
    non_finite_limit: Annotated[int, Whole, Field(ge=1, le=1_000_000)] = Field(
        default=10,
        description="number of successive steps with a loss or gradient that is not finite after which a run "
        "counts as diverged, see [below](#when-something-goes-wrong)",
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
        """The values that decide the trained weights. Later keys are left out where they change nothing."""
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
            raise ValueError(f"decay_at: give each budget once, in rising order, not {list(budgets)}")
        if budgets[-1] != self.steps:
            raise ValueError(
                f"decay_at: the last budget is {budgets[-1]}, and steps is {self.steps}; make them equal"
            )
        if (start := self.decay_start(budgets[0])) < self.warmup_steps:
            raise ValueError(
                f"decay_at: the decay to the budget {budgets[0]} would begin at step {start}, before the "
                f"warm-up ends at step {self.warmup_steps}; give a larger budget, or fewer warmup_steps"
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
            raise ValueError("freeze: a part is given twice; remove one")
        if self.freeze_steps is not None and not self.freeze:
            raise ValueError("freeze_steps has no effect without freeze; add freeze, or remove it")
        if (seconds := self.batch_size * self.crop_seconds) > MOST_STEP_SECONDS:
            raise ValueError(
                f"batch_size x crop_seconds is {seconds:,.0f} s of audio per step, more than "
                f"{MOST_STEP_SECONDS:,.0f} s; lower one of them"
            )
        return self
