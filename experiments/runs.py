"""Runs: what a study asks for, one by one, each with an identity made of what decides its result."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from experiments.study import (
    RATE_TOLERANCE,
    TRAIN_BOOKKEEPING,
    Evaluate,
    QuantizerChoice,
    Study,
    Train,
    bits_per_frame,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codec.model import Codec
    from experiments.reference_runs import ReferenceRun

REVISION = 1  # raise when a change of the code changes results, so that old runs are not taken for new ones


@dataclass(frozen=True, kw_only=True)
class CorpusIdentity:
    """What a run needs to know of its corpus: where `data.prepare` finds it, and what it is."""

    spec: str
    name: str
    content_hash: str
    synthetic: bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training and evaluation, fully resolved. Plain data, so that it can be sent to another process."""

    reference: ClassVar[bool] = False

    study: str
    label: str
    seed: int
    quantizer: str
    quantizer_options: dict[str, Any]
    backbone: str
    backbone_options: dict[str, Any]
    sample_rate: int
    corpus: CorpusIdentity
    train: Train
    evaluate: Evaluate

    @cached_property
    def training_identity(self) -> dict[str, Any]:
        """All that decides the trained weights; no paths, devices or numbers of workers."""
        from codec import backbones
        from quantizers import registry

        backbone = backbones.get(self.backbone, self.backbone_options)
        return {
            "revision": REVISION,
            "quantizer": {"class": registry.entry(self.quantizer).cls.__name__, **self.quantizer_options},
            "backbone": {"class": type(backbone).__name__, **dataclasses.asdict(backbone)},
            "corpus": self.corpus.content_hash,
            "train": self.train.model_dump(mode="json", exclude=set(TRAIN_BOOKKEEPING)),
            "seed": self.seed,
        }

    @cached_property
    def training_hash(self) -> str:
        """Identity of the trained weights, 16 hexadecimal digits."""
        return _hash(self.training_identity)

    @cached_property
    def hash(self) -> str:
        """Identity of the run: the training, and what is measured by which protocol."""
        from experiments import metrics

        measured: dict[str, Any] = {"protocol": metrics.PROTOCOL, "metrics": sorted(self.evaluate.metrics)}
        if self.evaluate.robustness is not None:
            measured["robustness"] = self.evaluate.robustness.model_dump(mode="json")
            if not self.evaluate.robustness.shuffles:  # as it was before there were any
                del measured["robustness"]["shuffles"]
        if self.evaluate.bit_exact != "fp32":
            measured["bit_exact"] = self.evaluate.bit_exact
        return _hash({"training": self.training_identity, "evaluation": measured})

    def resolved(self) -> dict[str, Any]:
        """The configuration in full, for people and for MLflow's parameters."""
        from codec import backbones

        backbone = backbones.get(self.backbone, self.backbone_options)
        return {
            "study": self.study,
            "label": self.label,
            "seed": self.seed,
            "quantizer": {"name": self.quantizer, "options": self.quantizer_options},
            "backbone": {"name": self.backbone, **dataclasses.asdict(backbone)},
            "data": {"corpus": self.corpus.name, "content_hash": self.corpus.content_hash},
            "train": self.train.model_dump(mode="json"),
            "evaluate": self.evaluate.model_dump(mode="json"),
        }

    def codec(self) -> "Codec":
        """The untrained codec: backbone weights drawn from the seed alone."""
        import quantizers
        from codec import backbones, model

        return model.build(
            backbones.get(self.backbone, self.backbone_options),
            lambda dim: quantizers.create(self.quantizer, dim=dim, **self.quantizer_options),
            self.seed,
        )

    def warm_start(self) -> "Run | None":
        """The unquantized training that this one starts from, the same for every quantizer of a seed."""
        warm = self.train.warm_start
        if warm is None:
            return None
        train = self.train.model_copy(update={"steps": warm.steps, "warm_start": None})
        return dataclasses.replace(
            self, label="warm start", quantizer="none", quantizer_options={}, train=train
        )


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Nominal rate of a quantizer in a study."""

    label: str
    bits_per_frame: float
    bitrate: float


def expand(study: Study, corpus: CorpusIdentity) -> list[Run]:
    """Every run of `study`: quantizers by seeds, seeds outermost so that a first full row comes early."""
    from codec import backbones

    backbone = backbones.get(study.backbone.name, study.backbone.options)
    return [
        Run(
            study=study.name,
            label=choice.label or choice.name,
            seed=seed,
            quantizer=choice.name,
            quantizer_options=resolved_options(study, choice),
            backbone=study.backbone.name,
            backbone_options=dict(study.backbone.options),
            sample_rate=backbone.sample_rate,
            corpus=corpus,
            train=study.train,
            evaluate=study.evaluate,
        )
        for seed in study.seeds
        for choice in study.quantizers
    ]


def sample_rate(study: Study) -> int:
    """Sample rate of the study's backbone, in Hz."""
    from codec import backbones

    return backbones.get(study.backbone.name, study.backbone.options).sample_rate


def resolved_options(study: Study, choice: QuantizerChoice) -> dict[str, Any]:
    """The options of the configuration that `choice` comes to, presets of the name left out."""
    import quantizers
    from quantizers import registry

    config = quantizers.validate(choice.name, choice.options, bits_per_frame(study, choice))
    preset = registry.entry(choice.name).preset
    values = {key: value for key, value in dataclasses.asdict(config).items() if key not in preset}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def rates(study: Study) -> list[Rate]:
    """The rate of each quantizer, from live modules. `none` spends no bits and is left out."""
    import quantizers
    from codec import backbones

    backbone = backbones.get(study.backbone.name, study.backbone.options)
    found = []
    for choice in study.quantizers:
        options = resolved_options(study, choice)
        quantizer = quantizers.create(choice.name, dim=backbone.dim, **options)
        if quantizer.streams:
            bits = quantizer.bits_per_frame
            found.append(
                Rate(
                    label=choice.label or choice.name,
                    bits_per_frame=bits,
                    bitrate=bits * backbone.frame_rate,
                )
            )
    return found


def mismatched(found: list[Rate]) -> list[Rate]:
    """The rates that are more than 2 % off the median one."""
    if not found:
        return []
    middle = sorted(rate.bitrate for rate in found)[len(found) // 2]
    return [rate for rate in found if abs(rate.bitrate / middle - 1) > RATE_TOLERANCE]


def study_hash(found: "Sequence[Run | ReferenceRun]") -> str:
    """Identity of a set of runs."""
    return _hash(sorted(run.hash for run in found))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
