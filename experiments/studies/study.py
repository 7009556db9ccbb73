"""Study files: YAML read into checked models, with an error that names the file, the key and the remedy."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

import quantizers
from codec import backbones
from experiments.studies import files as study_files
from experiments.studies import rows as quantizer_rows
from experiments.studies.axes import (
    RATES,
    Axis,
    RowName,
    Values,
    combine,
    in_options,
    in_section,
    model_in,
    places,
    rate_text,
    row_name,
)
from experiments.studies.files import StudyError, available
from experiments.studies.sections import (
    BackboneChoice,
    Data,
    Evaluate,
    QuantizerChoice,
    ReferenceChoice,
    Search,
    Section,
    Train,
)
from quantizers.suggestions import did_you_mean

__all__ = ["Study", "StudyError", "available", "bits_per_frame", "check", "load"]

if TYPE_CHECKING:
    pass


class Study(Section):
    """One question: some quantizers at one rate, everything else held fixed.

    The rate is `bits` a frame or `bitrate` in bit/s; without either, every quantizer's options stand.
    `axes` holds what the file gives as lists; a key of an axis has its first value here, and `cells` has all.
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
    train: Train = Field(default_factory=Train)  # checking an objective imports torch
    evaluate: Evaluate = Evaluate()
    references: tuple[ReferenceChoice, ...] = ()
    axes: tuple[Axis, ...] = ()
    search: Search | None = None
    as_given: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)  # sections with axes

    @model_validator(mode="after")
    def _one_rate(self) -> "Study":
        if self.bits is not None and self.bitrate is not None:
            raise ValueError("bits and bitrate both fix the rate; give one of them")
        labels = [choice.row for choice in self.quantizers]
        labels += [choice.row for choice in self.references]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"two rows are called {twice[0]!r}; tell them apart by label")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice in seeds")
        return self

    def cells(self) -> tuple["Study", ...]:
        """The study at each place of its axes: without axes, its quantizers called by what they differ in.

        A quantizer that an axis does not change, as the rate does not change `none`, is in the first cell
        where it would stand, and in no other.
        """
        if not self.axes:
            return (self,)
        found, labels = [], set()
        for place in places(self.axes):
            choices = []
            for choice in self.quantizers:
                label = self._row_name(choice, place).label
                if label not in labels:
                    choices.append(choice.model_copy(update={"label": label}))
                    labels.add(label)
            if choices:
                found.append(self._at(place).model_copy(update={"quantizers": tuple(choices), "axes": ()}))
        return tuple(found)

    def series(self) -> dict[str, str]:
        """The series of each quantizer's row by its label: rows of one series make one curve over rates."""
        places_of = list(places(self.axes)) if self.axes else [{}]
        names = [self._row_name(choice, place) for place in places_of for choice in self.quantizers]
        return {name.label: name.series for name in names}

    def _row_name(self, choice: QuantizerChoice, place: Values) -> RowName:
        own = f" {rate_text('bits', choice.bits)}" if choice.bits is not None else ""
        rate = own if choice.row.endswith(own) else ""  # stays last
        rateless = choice.name == "none" or choice.bits is not None
        name = row_name(choice.row.removesuffix(rate), self.axes, place, rateless)
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
    """
    values, source = study_files.read(study)
    for override in overrides:
        study_files.override(values, override)
    return check(values, source)


def check(values: Mapping[str, Any], source: str) -> Study:
    """`values` as a study. Raises StudyError naming `source`, the key and the remedy."""
    if written := {"axes", "as_given"} & set(values):
        raise StudyError(
            f"{source}: {min(written)}: not for study files; give a list in place of a value: bits: [10, 12]"
        )
    plain, origins = copy.deepcopy(dict(values)), list[int]()
    try:
        if isinstance(plain.get("quantizers"), list):
            plain["quantizers"], origins = quantizer_rows.expand(plain["quantizers"])
        plain["axes"] = combine(dict(_lists(plain)), plain.pop("zip", []))
    except ValueError as error:  # of an axis, or of a backbone whose options are asked for
        raise StudyError(f"{source}: {error}") from None
    for key, first in next(places(plain["axes"]), {}).items():
        _put(plain, key.split("."), first)
    touched = {key.split(".")[0] for axis in plain["axes"] for key in axis.keys}
    plain["as_given"] = {section: plain[section] for section in touched}
    try:
        study = Study.model_validate(plain)
        cells = study.cells()
    except ValidationError as error:
        problems = [_explain(problem, source, origins) for problem in error.errors()]
        raise StudyError("\n".join(dict.fromkeys(problems))) from None
    for cell in cells:
        _check_backbone(cell, source)
    _check_quantizers(study, source, origins)
    return study


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
        yield from in_options(options, kind, "backbone.options.")


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


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


def _explain(problem: ErrorDetails, source: str, origins: Sequence[int]) -> str:
    location = problem["loc"]
    if len(location) > 1 and location[0] == "quantizers" and isinstance(number := location[1], int):
        location = ("quantizers", origins[number], *location[2:])
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        hint = did_you_mean(location[-1], known)
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
            model = model_in(model.model_fields[part].annotation) or model
    return [name for name in model.model_fields if name not in ("axes", "as_given")]


def _check_backbone(study: Study, source: str) -> None:
    try:
        backbones.get(study.backbone.name, study.backbone.options)
    except backbones.BackboneError as error:
        raise StudyError(f"{source}: backbone: {error}") from None


def _check_quantizers(study: Study, source: str, origins: Sequence[int]) -> None:
    of_row = dict(zip((choice.row for choice in study.quantizers), origins, strict=True))
    for cell in study.cells():
        for choice in cell.quantizers:
            try:
                quantizers.validate(choice.name, choice.options, bits_per_frame(cell, choice))
            except quantizers.QuantizerError as error:
                where = f"quantizers.{of_row[choice.row]}" if choice.row in of_row else choice.row
                raise StudyError(f"{source}: {where}: {error}") from None
