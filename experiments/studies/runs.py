"""Runs: what a study asks for, one by one, each with an identity made of what decides its result."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import quantizers
from codec import backbones, model, weights
from experiments import metrics
from experiments.common.json_digest import identity
from experiments.data.cache import SPLITS
from experiments.studies.prefix_rows import check_prefixes, prefix_rows
from experiments.studies.sections import Evaluate, QuantizerChoice, Train
from experiments.studies.study import Study, StudyError, asked_of_features, configuration
from quantizers import registry
from quantizers.methods.none import Identity

if TYPE_CHECKING:
    from codec.model import Codec

REVISION = 2  # raise when a change of the code changes results, so that old runs are not taken for new ones


@dataclass(frozen=True, kw_only=True)
class CorpusIdentity:
    """Place and identity of a corpus: the name that `data.prepare` takes, and the hash of its content."""

    spec: str
    name: str
    content_hash: str
    synthetic: bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training and evaluation, fully resolved. Plain data, so that it can be sent to another process."""

    reference: ClassVar[bool] = False

    study: str
    label: str
    series: str = ""  # shared with the rows of other rates; decides nothing, as the label does not
    seed: int
    quantizer: str
    quantizer_options: dict[str, Any]
    asked: dict[str, Any] | None = (
        None  # where options wait for features: all options, and the bits per frame
    )
    tuned: str = ""  # what the options were chosen by and over; decides nothing
    checked_config: quantizers.Config | None = field(default=None, repr=False, compare=False)
    backbone: str
    backbone_options: dict[str, Any]
    sample_rate: int
    corpus: CorpusIdentity
    test_corpus: CorpusIdentity | None = None  # whose test split is scored; None: that of `corpus`
    train: Train
    evaluate: Evaluate
    stages: int | None = None  # evaluated are the first so many of those that were trained; None: all

    @cached_property
    def quantizer_config(self) -> quantizers.Config:
        """The configuration of the quantizer; a stand-in of about the same rate before `fitted`."""
        return self.checked_config or quantizers.validate(self.quantizer, self.quantizer_options)

    @cached_property
    def training_identity(self) -> dict[str, Any]:
        """All that decides the trained weights; no paths, devices or numbers of workers."""
        backbone = backbones.get(self.backbone, self.backbone_options)
        entry = registry.entry(self.quantizer)
        train = self.train.identity()
        if entry.cls is Identity:  # nothing starts
            train.pop("start", None)
            train.pop("rate_weight", None)  # there are no bits
        revised = {} if entry.cls.revision == 1 else {"quantizer_revision": entry.cls.revision}
        return {
            "revision": REVISION,
            **revised,
            "quantizer": {
                "class": entry.cls.__name__,
                **entry.preset,
                **(self.quantizer_options if self.asked is None else self.asked),
            },
            "backbone": {"class": type(backbone).__name__, **dataclasses.asdict(backbone)},
            "corpus": self.corpus.content_hash,
            "train": train,
            "seed": self.seed,
        }

    @cached_property
    def training_hash(self) -> str:
        """Identity of the trained weights, 16 hexadecimal digits."""
        return identity(self.training_identity)

    @cached_property
    def hash(self) -> str:
        """Identity of the run: the training, and what is measured by which protocol."""
        measured: dict[str, Any] = {"protocol": metrics.PROTOCOL, "metrics": sorted(self.evaluate.metrics)}
        if self.evaluate.robustness is not None:
            measured["robustness"] = self.evaluate.robustness.model_dump(mode="json")
            if not self.evaluate.robustness.shuffles:  # as it was before there were any
                del measured["robustness"]["shuffles"]
        if self.evaluate.bit_exact != "fp32":
            measured["bit_exact"] = self.evaluate.bit_exact
        if self.evaluate.token_model:
            measured["token_model"] = self.evaluate.token_model
        if self.stages is not None:
            measured["stages"] = self.stages
        if self.test_corpus is not None:
            measured["corpus"] = self.test_corpus.content_hash
        return identity({"training": self.training_identity, "evaluation": measured})

    @property
    def scored(self) -> CorpusIdentity:
        """The corpus whose test split is scored."""
        return self.test_corpus or self.corpus

    def resolved(self) -> dict[str, Any]:
        """The configuration in full, for people and for MLflow's parameters."""
        test = self.test_corpus
        scored = {"test": {"corpus": test.name, "content_hash": test.content_hash}} if test else {}
        backbone = backbones.get(self.backbone, self.backbone_options)
        return {
            "study": self.study,
            "label": self.label,
            "seed": self.seed,
            "quantizer": {
                "name": self.quantizer,
                "options": self.quantizer_options,
                **({} if self.asked is None else {"asked": self.asked}),
                **({"tuned": self.tuned} if self.tuned else {}),
            },
            "backbone": {"name": self.backbone, **dataclasses.asdict(backbone)},
            "data": {"corpus": self.corpus.name, "content_hash": self.corpus.content_hash, **scored},
            "train": self.train.model_dump(mode="json"),
            **self._released(),
            "evaluate": self._evaluation(),
        }

    def _evaluation(self) -> dict[str, Any]:
        """What is measured; `stages` as it was before there were numbers of them, unless this row has one."""
        values = self.evaluate.model_dump(mode="json", exclude={"stages"})
        return values if self.stages is None else {**values, "stages": self.stages}

    @property
    def released_weights(self) -> str | None:
        """The name of the released weights that the run starts from, if any."""
        warm = self.train.warm_start
        return None if warm is None else warm.weights

    def _released(self) -> dict[str, Any]:
        """Source and licence of the released weights that the run starts from, if any."""
        if self.released_weights is None:
            return {}
        release = weights.get(self.released_weights)
        return {"weights": {"name": release.name, "licence": release.licence, "source": release.source}}

    def fitted(self, config: quantizers.Config) -> "Run":
        """The same run, with the configuration that the features have decided."""
        options = registry.plain_options(self.quantizer, config)
        return dataclasses.replace(self, quantizer_options=options, checked_config=config)

    def codec(self) -> "Codec":
        """The untrained codec: backbone weights drawn from the seed alone."""
        return model.build(
            backbones.get(self.backbone, self.backbone_options),
            lambda dim: quantizers.build(self.quantizer, self.quantizer_config, dim=dim),
            self.seed,
        )

    def warm_start(self) -> "Run | None":
        """The unquantized training that this one starts from, the same for every quantizer of a seed."""
        warm = self.train.warm_start
        if warm is None or warm.steps is None:
            return None
        alone = {
            "steps": warm.steps,
            "warm_start": None,
            "start": "random",
            "freeze": (),
            "freeze_steps": None,
            "decay_at": (),
            "decay_share": 0.2,
            "rate_weight": 0.0,
        }
        train = self.train.model_copy(update=alone)
        return dataclasses.replace(
            self,
            label="warm start",
            series="",
            quantizer="none",
            quantizer_options={},
            asked=None,
            checked_config=None,
            test_corpus=None,
            train=train,
            stages=None,
        )


class Hashed(Protocol):
    """Anything with an identity: a run, or a run of a reference codec."""

    @property
    def hash(self) -> str:
        """Identity of the run, 16 hexadecimal digits."""


class NeededCorpus(NamedTuple):
    """A corpus that a study needs at a sample rate in Hz, and the splits that it needs of it."""

    spec: str
    sample_rate: int
    splits: tuple[str, ...]


Corpora = Mapping[tuple[str, int], CorpusIdentity]  # by name and sample rate


def corpora(study: Study) -> list[NeededCorpus]:
    """The corpora that `study` needs: those to train on first, then those that are only scored."""
    cells = [(cell.data, sample_rate(cell)) for cell in study.cells()]
    needed: dict[tuple[str, int], tuple[str, ...]] = {(data.corpus, rate): SPLITS for data, rate in cells}
    for data, rate in cells:
        needed.setdefault((data.scored, rate), ("test",))
    return [NeededCorpus(spec, rate, splits) for (spec, rate), splits in needed.items()]


def corpus_of(cell: Study, prepared: CorpusIdentity | Corpora) -> CorpusIdentity:
    """The corpus of one cell of a study, where there may be several."""
    if isinstance(prepared, CorpusIdentity):
        return prepared
    return prepared[cell.data.corpus, sample_rate(cell)]


def test_corpus_of(cell: Study, prepared: CorpusIdentity | Corpora) -> CorpusIdentity | None:
    """The corpus that one cell of a study is scored on, where its content is not what it is trained on."""
    if cell.data.test is None or isinstance(prepared, CorpusIdentity):
        return None
    test = prepared[cell.data.test, sample_rate(cell)]
    return test if test.content_hash != corpus_of(cell, prepared).content_hash else None


def expand(study: Study, corpus: CorpusIdentity | Corpora) -> list[Run]:
    """Runs of `study`: quantizers by cells by seeds, seeds outermost so that full rows come early.

    corpus: the one corpus of the study, or all of `corpora`. Raises StudyError where two rows are the same.
    """
    cells, series = study.cells(), study.series()
    check_prefixes(study)
    runs = []
    for seed in study.seeds:
        for cell in cells:
            for choice in cell.quantizers:
                run = Run(
                    study=study.name,
                    label=choice.row,
                    series=series[choice.row],
                    seed=seed,
                    quantizer=choice.name,
                    quantizer_options=resolved_options(cell, choice),
                    asked=asked_of_features(cell, choice),
                    tuned=choice.tuned,
                    checked_config=configuration(cell, choice),
                    backbone=cell.backbone.name,
                    backbone_options=dict(cell.backbone.options),
                    sample_rate=sample_rate(cell),
                    corpus=corpus_of(cell, corpus),
                    test_corpus=test_corpus_of(cell, corpus),
                    train=cell.train,
                    evaluate=cell.evaluate,
                )
                runs.append(run)
                for row in prefix_rows(study, cell, choice):
                    runs.append(
                        dataclasses.replace(run, label=row.label, series=row.series, stages=row.stages)
                    )
    labels: dict[str, str] = {}
    for run in runs:
        other = labels.setdefault(run.hash, run.label)
        if other != run.label:
            raise StudyError(
                f"{study.name}: {other!r} and {run.label!r} have the same configuration, {run.quantizer} "
                f"with {run.quantizer_options}; remove one of them"
            )
    return runs


def sample_rate(study: Study) -> int:
    """Sample rate of the study's backbone, in Hz."""
    return backbones.get(study.backbone.name, study.backbone.options).sample_rate


def resolved_options(study: Study, choice: QuantizerChoice) -> dict[str, Any]:
    """The options of the configuration that `choice` comes to, presets of the name left out; nothing where it
    waits for features."""
    if asked_of_features(study, choice) is not None:
        return {}
    return registry.plain_options(choice.name, configuration(study, choice))


def study_hash(runs: Iterable[Hashed]) -> str:
    """Identity of a set of runs."""
    return identity(sorted(run.hash for run in runs))
