"""Check study files: YAML into models, with an error that names the file, the key and the remedy."""

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

import quantizers
from codec import backbones
from experiments.studies import files as study_files
from experiments.studies import rows as quantizer_rows
from experiments.studies.axes import (
    MOST_ROWS,
    RATE_WEIGHT,
    RATES,
    Axis,
    AxisError,
    RowName,
    Values,
    check_rows,
    combine,
    in_options,
    in_section,
    number_of_places,
    places,
    rate_text,
    row_name,
)
from experiments.studies.explain import explain
from experiments.studies.fields import (
    MOST_QUESTION,
    MOST_SEEDS,
    Bitrate,
    Bits,
    Name,
    Seed,
    Switch,
)
from experiments.studies.files import StudyError, available
from experiments.studies.sections import (
    BackboneChoice,
    Contrast,
    Data,
    Evaluate,
    QuantizerChoice,
    ReferenceChoice,
    Search,
    Section,
    Train,
)
from quantizers import Config, registry
from quantizers.suggestions import did_you_mean

__all__ = ["Study", "StudyError", "available", "bits_per_frame", "check", "load"]

MOST_RUNS = 100_000  # rows times seeds
MOST_CONTRASTS = 60


class Study(Section):
    """A study: several quantizers at one rate, with everything else held fixed.

    The rate is `bits` per frame or `bitrate` in bit/s; without both, the options of each quantizer decide.
    `axes` holds the lists of the file. A key with a list has its first value here; `cells` has all values.
    """

    name: Name = Field(description="name of the study and of its MLflow experiment")
    question: Annotated[str, Field(max_length=MOST_QUESTION)] = Field(
        default="", description="the question that the study answers, in a sentence"
    )
    quantizers: Annotated[tuple[QuantizerChoice, ...], Field(min_length=1)] = Field(
        description="the quantizers to compare: names, or mappings with `name`, `label`, `bits`, `options`"
    )
    bits: Bits | None = Field(
        default=None,
        description="rate of every quantizer in bits per frame. Give `bits` or `bitrate`; without both, the "
        "options of each quantizer decide its rate",
    )
    bitrate: Bitrate | None = Field(default=None, description="rate of every quantizer in bit/s")
    allow_rate_mismatch: Switch = Field(
        default=False,
        description="`true`: compare all rows with each other, even if their rates differ by more than 2 %",
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MOST_SEEDS)] = Field(
        default=(0,), description="random seeds; each row is trained once per seed"
    )
    backbone: BackboneChoice = Field(
        default=BackboneChoice(),
        description="encoder and decoder: a name, or `{name, options}`, see backbones.md",
    )
    data: Data = Field(default=Data(), description="the corpus, see data.md")
    train: Train = Field(  # made late: its objective imports torch
        default_factory=Train, description="training of every row, see training.md"
    )
    evaluate: Evaluate = Field(default=Evaluate(), description="measurements on the test split")
    references: Annotated[tuple[ReferenceChoice, ...], Field(max_length=1000)] = Field(
        default=(), description="codecs by others and controls to score beside the rows, see references.md"
    )
    contrasts: Annotated[tuple[Contrast, ...], Field(max_length=MOST_CONTRASTS)] = Field(
        default=(),
        description="comparisons of two rows: mappings with `effect`, `of`, `less`, `name`, `planned`",
    )
    axes: tuple[Axis, ...] = ()
    search: Search | None = Field(
        default=None, description="search space of `codecbench search`, see search.md"
    )
    as_given: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)  # sections with axes

    @model_validator(mode="after")
    def _one_rate(self) -> "Study":
        if self.bits is not None and self.bitrate is not None:
            raise ValueError("bits and bitrate both fix the rate; give one of them")
        labels = [choice.row for choice in self.quantizers]
        labels += [choice.row for choice in self.references]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"two rows have the label {twice[0]!r}; give one of them another label")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed is given twice; remove one")
        return self

    def cells(self) -> tuple["Study", ...]:
        """The studies at each place of the axes. Without axes: the study itself.

        A quantizer that an axis does not change is only in the first cell that has it; for example, the rate
        does not change `none`.
        """
        if not self.axes:
            return (self,)
        cells, labels = [], set()
        for place in places(self.axes):
            choices = []
            for choice in self.quantizers:
                label = self._row_name(choice, place).label
                if label not in labels:
                    choices.append(choice.model_copy(update={"label": label}))
                    labels.add(label)
            if choices:
                cells.append(self._at(place).model_copy(update={"quantizers": tuple(choices), "axes": ()}))
        return tuple(cells)

    def series(self) -> dict[str, str]:
        """Series by label of each row. Rows of one series form one curve over rates."""
        places_of = list(places(self.axes)) if self.axes else [{}]
        names = [self._row_name(choice, place) for place in places_of for choice in self.quantizers]
        return {name.label: name.series for name in names}

    def _row_name(self, choice: QuantizerChoice, place: Values) -> RowName:
        own = f" {rate_text('bits', choice.bits)}" if choice.bits is not None else ""
        rate = own if choice.row.endswith(own) else ""  # stays last
        without: tuple[str, ...] = RATES if choice.bits is not None else ()
        if choice.name == "none":
            without = (*RATES, RATE_WEIGHT)
        name = row_name(choice.row.removesuffix(rate), self.axes, place, without)
        return RowName(name.series, name.rate + rate)

    def _at(self, place: Values) -> "Study":
        values: dict[str, Any] = {}
        for key, value in place.items():
            section, *inside = key.split(".")
            if not inside:
                values[section] = value
                continue
            if section not in values:
                values[section] = copy.deepcopy(self.as_given[section])
            _put(values[section], inside, value)
        checked = Study.model_validate({"name": self.name, "quantizers": ["none"], **values})
        return self.model_copy(update={name: getattr(checked, name) for name in values})


def load(study: str, overrides: Sequence[str] = ()) -> Study:
    """The study of a shipped name or of a YAML file, with `key.path=value` overrides applied.

    Raises StudyError.

    Examples:
        >>> study = load("quickstart", ["train.steps=20"])
        >>> study.train.steps, [row.name for row in study.quantizers][:3]
        (20, ['none', 'vq', 'rvq'])
    """
    values, source = study_files.read(study)
    for override in overrides:
        study_files.override(values, override)
    return check(values, source, fewer_rows=study_files.leave_out_rows(overrides))


def check(values: Mapping[str, Any], source: str, *, fewer_rows: bool = False) -> Study:
    """`values` as a study. Raises StudyError naming `source`, the key and the remedy.

    fewer_rows: contrasts may name rows that are not there, since overrides may have left them out; these
    contrasts are left out, too.
    """
    if written := {"axes", "as_given"} & set(values):
        raise StudyError(
            f"{source}: {min(written)}: not for study files; give a list in place of a value: bits: [10, 12]"
        )
    plain, origins = copy.deepcopy(dict(values)), list[int]()
    try:
        if isinstance(plain.get("quantizers"), list):
            plain["quantizers"], origins = quantizer_rows.expand(plain["quantizers"])
        plain["axes"] = combine(dict(_lists(plain)), plain.pop("zip", []))
        _check_size(plain, len(origins))
    except ValueError as error:  # of an axis, or of a backbone whose options are asked for
        if unknown := _unknown_keys(values):  # a key that is misspelled in its section, too
            raise StudyError(explain(unknown, source, origins, Study)) from None
        raise StudyError(f"{source}: {error}") from None
    for key, first in next(places(plain["axes"]), {}).items():
        _put(plain, key.split("."), first)
    touched = {key.split(".")[0] for axis in plain["axes"] for key in axis.keys}
    plain["as_given"] = {section: plain[section] for section in touched}
    try:
        study = Study.model_validate(plain)
        cells = study.cells()
    except ValidationError as error:
        raise StudyError(explain(error.errors(), source, origins, Study)) from None
    for cell in cells:
        _check_backbone(cell, source)
    if fewer_rows:
        rows = {label for names in study.series().items() for label in names}
        kept = tuple(one for one in study.contrasts if {one.of, one.less} <= rows)
        study = study.model_copy(update={"contrasts": kept})
    _check_contrasts(study, source)
    _check_quantizers(study, cells, source, origins)
    return study


def _unknown_keys(values: Mapping[str, Any]) -> list[ErrorDetails]:
    """The errors of keys that no section has, in a file whose axes do not fit together."""
    try:
        Study.model_validate({key: value for key, value in values.items() if key != "zip"})
    except ValidationError as error:
        return [one for one in error.errors() if one["type"] == "extra_forbidden"]
    return []


def _check_size(values: Mapping[str, Any], quantizers: int) -> None:
    """Raise AxisError where more rows or runs are asked for than can be built."""
    rows = number_of_places(values["axes"]) * quantizers
    check_rows(rows)
    seeds = values.get("seeds")
    if (runs := rows * (len(seeds) if isinstance(seeds, list) else 1)) > MOST_RUNS:
        raise AxisError(f"seeds: {runs:,} runs are more than {MOST_RUNS:,}; give fewer seeds, or fewer rows")


def _lists(values: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """The keys of a study that have lists where they take one value, those of quantizers left out."""
    for key in RATES:
        if isinstance(values.get(key), list):
            yield key, values[key]
    sections: dict[str, type[BaseModel]] = {"backbone": BackboneChoice, "data": Data, "train": Train}
    for key, model in sections.items():
        yield from in_section(values.get(key), model, key)
    backbone = values.get("backbone")
    options = backbone.get("options") if isinstance(backbone, dict) else None
    if isinstance(options, dict) and any(isinstance(value, list) for value in options.values()):
        names = backbone.get("name", BackboneChoice().name) if isinstance(backbone, dict) else ""
        kind = type(backbones.get(names[0] if isinstance(names, list) and names else str(names)))
        plain = {key: value for key, value in options.items() if "." not in key}
        yield from in_options(plain, kind, "backbone.options.")


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


def configuration(study: Study, choice: QuantizerChoice) -> Config:
    """The configuration that `choice` comes to. Raises QuantizerError.

    Where options wait for features, as `channels: fit` does, it is a stand-in of about the same rate: see
    `asked_of_features`.

    Kept, since the check of the study, its runs and its rates ask for the same ones.
    """
    dim = backbones.get(study.backbone.name, study.backbone.options).dim
    return _configuration(choice.name, json.dumps(choice.options), bits_per_frame(study, choice), dim)


@lru_cache(maxsize=2 * MOST_ROWS)
def _configuration(name: str, options: str, bits: float | None, dim: int) -> Config:
    given = json.loads(options)
    if bits is not None and quantizers.needs_features(name, given):
        given, bits = quantizers.planned_options(name, dim=dim, bits=bits, options=given), None
    return quantizers.validate(name, given, bits)


def asked_of_features(study: Study, choice: QuantizerChoice) -> dict[str, Any] | None:
    """What `choice` asks for, and the bits per frame, where its configuration waits for the features that the
    quantizer will see; None where it is complete."""
    if not quantizers.needs_features(choice.name, choice.options):
        return None
    return {**choice.options, "bits": bits_per_frame(study, choice)}


def bits_per_frame(study: Study, choice: QuantizerChoice) -> float | None:
    """Bits a frame that the quantizer of `choice` is to spend, or None where its options stand."""
    if choice.name == "none":
        return None
    if choice.bits is not None:
        return choice.bits
    if study.bitrate is not None:
        frame_rate = backbones.get(study.backbone.name, study.backbone.options).frame_rate
        return study.bitrate / frame_rate
    return study.bits


def _check_backbone(study: Study, source: str) -> None:
    try:
        backbone = backbones.get(study.backbone.name, study.backbone.options)
    except backbones.BackboneError as error:
        raise StudyError(f"{source}: backbone: {error}") from None
    train = study.train
    name = train.warm_start.weights if train.warm_start is not None else None
    if name is not None and backbone != backbones.get(name):
        raise StudyError(
            f"{source}: train.warm_start.weights: {name} are weights of the backbone {name} without options, "
            f"but this study has {study.backbone.name}; set backbone: {name}, or warm_start: {{steps: N}}"
        )
    samples = round(train.crop_seconds * backbone.sample_rate / backbone.hop) * backbone.hop
    if samples < (least := train.objective.objective().least_samples):
        enough = math.ceil(least / backbone.hop) * backbone.hop / backbone.sample_rate
        raise StudyError(
            f"{source}: train.crop_seconds: {train.crop_seconds:g} s are {samples} samples at "
            f"{backbone.sample_rate} Hz, and the objective needs {least}; give {enough:.4g} s or more"
        )


def _check_quantizers(study: Study, cells: Sequence[Study], source: str, origins: Sequence[int]) -> None:
    of_row = dict(zip((choice.row for choice in study.quantizers), origins, strict=True))
    for cell in cells:
        for choice in cell.quantizers:
            try:
                config = configuration(cell, choice)
                if cell.train.rate_weight:
                    registry.check_rate_estimate(choice.name, config)
            except quantizers.QuantizerError as error:
                where = f"quantizers.{of_row[choice.row]}" if choice.row in of_row else choice.row
                raise StudyError(f"{source}: {where}: {error}") from None


def _check_contrasts(study: Study, source: str) -> None:
    series = study.series()
    known = list(dict.fromkeys([*series, *series.values()]))
    lines = set()
    for number, contrast in enumerate(study.contrasts):
        where = f"{source}: contrasts.{number}"
        for key, label in (("of", contrast.of), ("less", contrast.less)):
            if label not in known:
                raise StudyError(
                    f"{where}.{key}: no row or series has the label {label!r}; {did_you_mean(label, known)}"
                    f"known: {', '.join(known)}"
                )
        if contrast.of == contrast.less:
            raise StudyError(f"{where}: {contrast.of!r} is compared with itself; name two rows")
        if (line := (contrast.effect, contrast.line)) in lines:
            raise StudyError(
                f"{where}: {contrast.line!r} is given twice under {contrast.effect!r}; remove one"
            )
        lines.add(line)
