"""Study files: YAML read into checked models, with an error that names the file, the key and the remedy."""

import difflib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

RATE_TOLERANCE = 0.02  # rows of a table are side by side when their bitrates differ by no more


# Sections that may be written as one word: the key that the word stands for.
_ALONE = {"backbone": "name", "data": "corpus"}


class StudyError(ValueError):
    """A study file, or a value given for it, is wrong; the message says where and what to do."""


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
        from codec import references

        name, options = references.parse(value)
        return {"name": name, "options": options}

    @model_validator(mode="after")
    def _known(self) -> "ReferenceChoice":
        assert self.row
        return self

    @property
    def row(self) -> str:
        """The label of its row. Raises ReferenceCodecError for a codec that there is not."""
        from codec import references

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


class Train(Section):
    """How every bottleneck is trained.

    crop_seconds: seconds of audio a crop. learning_rate: of AdamW. matrix_learning_rate: of Muon, which
    updates the hidden matrices (optimizer: muon). Both rise over `warmup_steps`, then fall linearly to
    `final_learning_rate` of themselves. precision: of the network's blocks; the quantizer is always fp32;
    auto means bf16 where the device has it. The intervals are in steps.
    """

    steps: Annotated[int, Field(ge=1)] = 300
    batch_size: Annotated[int, Field(ge=1)] = 8
    crop_seconds: Annotated[float, Field(gt=0)] = 0.5
    optimizer: Literal["muon", "adamw"] = "muon"
    learning_rate: Annotated[float, Field(gt=0)] = 8e-3
    matrix_learning_rate: Annotated[float, Field(gt=0)] = 4e-2
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 30
    final_learning_rate: Annotated[float, Field(ge=0, le=1)] = 0.05
    gradient_clip: Annotated[float, Field(gt=0)] = 5.0
    mel_weight: Annotated[float, Field(ge=0)] = 1.0
    complex_weight: Annotated[float, Field(ge=0)] = 2.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    warm_start: WarmStart | None = None
    log_every: Annotated[int, Field(ge=1)] = 10
    validate_every: Annotated[int, Field(ge=1)] = 100
    checkpoint_every: Annotated[int, Field(ge=1)] = 50
    non_finite_limit: Annotated[int, Field(ge=1)] = 10


# What of the training section does not decide the result, and so is not part of a run's identity.
TRAIN_BOOKKEEPING = ("log_every", "validate_every", "checkpoint_every")


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
    metrics: tuple[str, ...] = ()
    utterances: Annotated[int, Field(ge=1)] = 20

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from experiments import metrics

        for name in names:
            metrics.get(name).require()
        return names


class Evaluate(Section):
    """metrics: scored on the whole test split. audio_examples: pairs kept in the tracking store.

    bit_exact: codes alone must decode to the forward pass's features in fp32, always; bf16 checks it with
    the encoder in bf16, too, and counts the codes that differ from those of fp32.
    """

    metrics: tuple[str, ...] = ("pesq", "stoi", "mel_distance", "dnsmos_ovrl")
    audio_examples: Annotated[int, Field(ge=0)] = 3
    robustness: Robustness | None = None
    bit_exact: Literal["fp32", "bf16"] = "fp32"

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from experiments import metrics

        for name in names:
            metrics.get(name).require()
        return names


class Study(Section):
    """One question: some quantizers at one rate, everything else held fixed.

    The rate is `bits` a frame or `bitrate` in bit/s; without either, every quantizer's options stand.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    question: str = ""
    quantizers: Annotated[tuple[QuantizerChoice, ...], Field(min_length=1)]
    bits: Annotated[float, Field(gt=0)] | None = None
    bitrate: Annotated[float, Field(gt=0)] | None = None
    allow_rate_mismatch: bool = False
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    backbone: BackboneChoice = BackboneChoice()
    data: Data = Data()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    references: tuple[ReferenceChoice, ...] = ()

    @model_validator(mode="after")
    def _one_rate(self) -> "Study":
        if self.bits is not None and self.bitrate is not None:
            raise ValueError("bits and bitrate both fix the rate; give one of them")
        labels = [choice.label or choice.name for choice in self.quantizers]
        labels += [choice.row for choice in self.references]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"two rows are called {twice[0]!r}; tell them apart by label")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice in seeds")
        return self


def available() -> tuple[str, ...]:
    """Names of the studies that come with codecbench."""
    return tuple(sorted(path.name.removesuffix(".yaml") for path in _shipped().iterdir() if _is_study(path)))


def load(study: str, overrides: Sequence[str] = ()) -> Study:
    """The study of a shipped name or of a YAML file, with `key.path=value` overrides applied.

    Raises StudyError.
    """
    path = Path(study)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            text, source = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(f"cannot read the study file {path}: {error}") from None
    elif study in available():
        text, source = (_shipped() / f"{study}.yaml").read_text(encoding="utf-8"), f"{study}.yaml"
    else:
        close = difflib.get_close_matches(study, available(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise StudyError(
            f"no study {study!r}; {hint}shipped: {', '.join(available())}; or give the path of a YAML file"
        )
    values = _parse(text, source)
    for override in overrides:
        _apply(values, override)
    return check(values, source)


def check(values: Mapping[str, Any], source: str) -> Study:
    """`values` as a study. Raises StudyError naming `source`, the key and the remedy."""
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem, source) for problem in error.errors()]
        raise StudyError("\n".join(dict.fromkeys(problems))) from None
    _check_backbone(study, source)
    _check_quantizers(study, source)
    return study


def bits_per_frame(study: Study, choice: QuantizerChoice) -> float | None:
    """Bits a frame that the quantizer of `choice` is to spend, or None where its options stand."""
    if choice.name == "none":
        return None
    if choice.bits is not None:
        return choice.bits
    if study.bitrate is not None:
        from codec import backbones

        frame_rate = backbones.get(study.backbone.name, study.backbone.options).frame_rate
        return study.bitrate / frame_rate
    return study.bits


def _shipped() -> Any:
    return files("experiments") / "studies"


def _is_study(path: Any) -> bool:
    return path.name.endswith(".yaml")


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyError(f"{source}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise StudyError(f"{source}: a study is a mapping of keys to values")
    return values


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise StudyError(f"--set {override}: write it as key=value, such as train.steps=200")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyError(f"--set {override}: {error}") from None
    here = values
    *parents, last = key.split(".")
    for parent in parents:
        below = here.get(parent)
        if isinstance(below, str) and parent in _ALONE:
            below = {_ALONE[parent]: below}
        elif below is None:
            below = {}
        elif not isinstance(below, dict):
            raise StudyError(f"--set {override}: {parent} has no keys below it")
        here[parent] = dict(below)
        here = here[parent]
    here[last] = value


def _explain(problem: ErrorDetails, source: str) -> str:
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{source}: unknown key {key!r}; {hint}known here: {', '.join(known)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{source}: the key {key!r} is missing; add it"
    given = "" if isinstance(problem["input"], (dict, Study)) else f" (got {problem['input']!r})"
    return f"{source}: {key + ': ' if key else ''}{message}{given}"


def _fields_at(location: Sequence[int | str]) -> list[str]:
    """Names of the fields of the model at a location in the study."""
    model: type[BaseModel] = Study
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, tuple, Annotated):
        for inner in get_args(annotation):
            if (found := _model_in(inner)) is not None:
                return found
    return None


def _check_backbone(study: Study, source: str) -> None:
    from codec import backbones

    try:
        backbones.get(study.backbone.name, study.backbone.options)
    except backbones.BackboneError as error:
        raise StudyError(f"{source}: backbone: {error}") from None


def _check_quantizers(study: Study, source: str) -> None:
    import quantizers

    for index, choice in enumerate(study.quantizers):
        try:
            quantizers.validate(choice.name, choice.options, bits_per_frame(study, choice))
        except quantizers.QuantizerError as error:
            raise StudyError(f"{source}: quantizers.{index}: {error}") from None
