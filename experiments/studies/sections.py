"""Sections of a study: quantizers, references, backbone, data, evaluation; `train` and `search` by import."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from codec import references
from experiments import metrics
from experiments.data.sources.registry import KINDS, USAGE
from experiments.studies.fields import (
    MOST_CORPUS,
    MOST_FILE_NAME,
    MOST_QUESTION,
    Bits,
    Label,
    Metrics,
    Number,
    Once,
    Options,
    Section,
    Whole,
    printable,
)
from experiments.studies.search_section import Family, Pruner, Search, SearchSpace
from experiments.studies.train_section import (
    RECIPES,
    TRAIN_BOOKKEEPING,
    ObjectiveChoice,
    Train,
    WarmStart,
)
from quantizers.suggestions import did_you_mean

__all__ = [
    "RECIPES",
    "TRAIN_BOOKKEEPING",
    "BackboneChoice",
    "Contrast",
    "Data",
    "Evaluate",
    "Family",
    "ObjectiveChoice",
    "Pruner",
    "QuantizerChoice",
    "ReferenceChoice",
    "Robustness",
    "Search",
    "SearchSpace",
    "Section",
    "Train",
    "WarmStart",
]

MOST_SHARDS = 100_000  # that the braces of a pattern of tar shards may stand for
MOST_SEVERITIES = 100  # of one disturbance


class QuantizerChoice(Section):
    """A registered quantizer and its options."""

    name: str = Field(description="a registered name, see `codecbench list quantizers`")
    label: Label = Field(default="", description="name of its row; by default the quantizer's name")
    bits: Bits | None = Field(default=None, description="a frame, in place of the study's rate")
    options: Options = Field(default_factory=dict, description="see `codecbench list quantizers`")
    tuned: Annotated[str, Field(max_length=MOST_QUESTION)] = Field(
        default="", description="what the options were chosen by and over, for tables; see search.md"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def row(self) -> str:
        """The label of its row."""
        return self.label or self.name


class ReferenceChoice(Section):
    """A codec from outside, or a control, beside the quantizers. In one word: NAME, or NAME:OPTION."""

    name: str = Field(description="a reference codec, see `codecbench list references`")
    label: Label = Field(default="", description="name of its row; by default the codec's name and rate")
    options: Options = Field(default_factory=dict, description="see references.md")

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
        codec = references.create(self.name, self.options)
        return self.label or codec.label


class BackboneChoice(Section):
    """A named backbone, and fields of it that this study changes."""

    name: str = Field(default="mdct-tiny", description="see backbones.md")
    options: Options = Field(default_factory=dict, description="fields of the backbone that differ")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Contrast(Section):
    """A difference that a study is made for, planned before its runs are seen: one row less another."""

    effect: Label = Field(description="what the rows differ in; contrasts of one effect are shown together")
    name: Label = Field(default="", description="what its line is called; by default `OF less LESS`")
    of: Label = Field(description="label of a row; or of a series, for a difference at each rate")
    less: Label = Field(description="label of the row or series that is subtracted")

    @property
    def line(self) -> str:
        """What its line in tables and figures is called."""
        return self.name or f"{self.of} less {self.less}"


class Data(Section):
    """The corpus."""

    corpus: Annotated[str, Field(max_length=MOST_CORPUS)] = Field(
        default="demo", description=" or ".join(f"`{form}`" for form in USAGE)
    )

    @model_validator(mode="before")
    @classmethod
    def _corpus_alone(cls, value: Any) -> Any:
        return {"corpus": value} if isinstance(value, str) else value

    @field_validator("corpus")
    @classmethod
    def _of_a_known_kind(cls, spec: str) -> str:
        kind, _, rest = printable(spec).partition(":")
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS)
            raise ValueError(f"is no corpus; {hint}known: {', '.join(USAGE)}")
        if kind in ("webdataset", "tar-stream", "tar") and (shards := _expansions(rest)) > MOST_SHARDS:
            raise ValueError(f"stands for {shards:,} shards, more than {MOST_SHARDS:,}; use fewer braces")
        if any(len(part.encode()) > MOST_FILE_NAME for part in re.split(r"[/,=:]", rest)):
            raise ValueError(f"has a name of more than {MOST_FILE_NAME} bytes, which no file can have")
        return spec


def _expansions(pattern: str) -> int:
    """Number of texts that the braces of `pattern` stand for: `{a,b}` and `{000..999}`.

    Braces in braces are counted as if they stood side by side, which is never too few.
    """
    product = 1
    for inner in re.findall(r"\{([^{}]*)", pattern):
        ends = inner.split("..")
        if len(ends) == 1:
            product *= inner.count(",") + 1
        elif all(re.fullmatch(r"-?[0-9]{1,18}", end) for end in ends[:2]):
            product *= abs(int(ends[1]) - int(ends[0])) + 1
        else:
            product *= 52 if len(inner) < 10 else MOST_SHARDS + 1  # letters, or numbers beyond reason
    return product


class Robustness(Section):
    """Severities of disturbances, on some utterances of the test split."""

    flips: Annotated[
        tuple[Annotated[float, Number, Field(gt=0, le=100)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="percent of codes that are replaced")
    drops: Annotated[
        tuple[Annotated[float, Number, Field(gt=0, le=100)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="percent of frames that are lost")
    shuffles: Annotated[
        tuple[Annotated[float, Number, Field(gt=0, le=100)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="percent of frames that change places")
    reencodings: Annotated[
        tuple[Annotated[int, Whole, Field(ge=1, le=10)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="times that the result is coded again")
    noise: Annotated[
        tuple[Annotated[float, Number, Field(ge=-20, le=100)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="signal-to-noise ratios before the encoder, dB")
    gain: Annotated[
        tuple[Annotated[float, Number, Field(ge=-80, le=80)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="gain before the encoder, taken back before scoring, dB")
    metrics: Metrics = Field(default=(), description="by default those of `evaluate`")
    utterances: Annotated[int, Whole, Field(ge=1, le=1_000_000)] = Field(
        default=20, description="clips, spread evenly over the test split"
    )


class Evaluate(Section):
    """Measurements on the test split."""

    metrics: Annotated[Metrics, Field(min_length=1)] = Field(
        default=metrics.STANDARD,
        description="scored on the whole test split, and shown in this order, see `codecbench list metrics`",
    )
    audio_examples: Annotated[int, Whole, Field(ge=0, le=10_000)] = Field(
        default=8,
        description="pairs of clips kept in the tracking store, spread evenly over the test split; reports "
        "choose the best, worst and most different of them to listen to",
    )
    snapshots: Annotated[int, Whole, Field(ge=0, le=1000)] = Field(
        default=8,
        description="times while training at which the latents of fixed crops are kept, for figures: the "
        "first at the start, the last at the end, those between closer together early on; 0: none",
    )
    robustness: Robustness | None = Field(default=None, description="disturbances, see [below](#robustness)")
    stages: Literal["trained", "all"] = Field(
        default="trained",
        description="`all`: quantizers of stages have a row for every number of first stages, too, from the "
        "one training; give them `dropout`, so that the decoder has heard fewer stages",
    )
    bit_exact: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="codes alone must decode to the forward pass's features in fp32, always; `bf16` checks "
        "it with the encoder in bf16, too, and counts the codes that differ",
    )
    token_model: Annotated[int, Whole, Field(ge=0, le=1_000_000)] = Field(
        default=0,
        description="steps of training of a small autoregressive model of the codes, whose perplexity on the "
        "test split is logged, see bitstream.md; 0: none",
    )
