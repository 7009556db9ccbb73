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

    name: str = Field(description="name of a quantizer, see `codecbench list quantizers`")
    label: Label = Field(default="", description="name of its row; default: the quantizer's name")
    bits: Bits | None = Field(
        default=None, description="bits per frame of this quantizer; replaces the rate of the study"
    )
    options: Options = Field(
        default_factory=dict, description="options of the quantizer, see `codecbench list quantizers`"
    )
    tuned: Annotated[str, Field(max_length=MOST_QUESTION)] = Field(
        default="", description="a sentence for tables: how the options were tuned, see search.md"
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
    """A codec by others, or a control, scored beside the quantizers. Short form: NAME or NAME:OPTION."""

    name: str = Field(description="name of a reference codec, see `codecbench list references`")
    label: Label = Field(default="", description="name of its row; default: the codec's name and rate")
    options: Options = Field(default_factory=dict, description="options of the codec, see references.md")

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
        """The label of its row. Raises ReferenceCodecError for an unknown codec."""
        codec = references.create(self.name, self.options)
        return self.label or codec.label


class BackboneChoice(Section):
    """Encoder and decoder: a backbone by name, and its fields that this study changes."""

    name: str = Field(default="mdct-tiny", description="name of a backbone, see backbones.md")
    options: Options = Field(
        default_factory=dict, description="fields of the backbone that this study changes, see backbones.md"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Contrast(Section):
    """A comparison that a study is made for: the difference between two rows."""

    effect: Label = Field(
        min_length=1,
        description="name of the factor in which the rows differ; contrasts of one effect are shown together",
    )
    name: Label = Field(default="", description="name of its line in tables; default: `OF less LESS`")
    of: Label = Field(description="label of a row, or of a series for one difference per rate")
    less: Label = Field(description="label of the row or series that is subtracted")
    planned: bool = Field(
        default=True,
        description="false if it was added after runs had begun; tables and figures then mark it",
    )

    @property
    def line(self) -> str:
        """The name of its line in tables and figures."""
        return self.name or f"{self.of} less {self.less}"


class Data(Section):
    """The corpus of training, validation and test clips."""

    corpus: Annotated[str, Field(max_length=MOST_CORPUS)] = Field(
        default="demo", description="one of " + ", ".join(f"`{form}`" for form in USAGE)
    )
    test: Annotated[str, Field(max_length=MOST_CORPUS)] | None = Field(
        default=None,
        description="another corpus, whose test split is scored instead, such as noisy speech or an unseen "
        "language; the training stays the same, see data.md",
    )

    @model_validator(mode="before")
    @classmethod
    def _corpus_alone(cls, value: Any) -> Any:
        return {"corpus": value} if isinstance(value, str) else value

    @property
    def scored(self) -> str:
        """The corpus whose test split is scored."""
        return self.corpus if self.test is None else self.test

    @field_validator("corpus", "test")
    @classmethod
    def _of_a_known_kind(cls, spec: str | None) -> str | None:
        if spec is None:
            return None
        kind, _, rest = printable(spec).partition(":")
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS)
            raise ValueError(f"is not a corpus; {hint}known: {', '.join(USAGE)}")
        if kind in ("webdataset", "tar-stream", "tar") and (shards := _expansions(rest)) > MOST_SHARDS:
            raise ValueError(f"names {shards:,} shards, more than {MOST_SHARDS:,}; use fewer braces")
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
    """Disturbances of codes or audio. Each severity is scored on some utterances of the test split."""

    flips: Annotated[
        tuple[Annotated[float, Number, Field(gt=0, le=100)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="percentages of codes that are replaced at random")
    drops: Annotated[
        tuple[Annotated[float, Number, Field(gt=0, le=100)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="percentages of frames that are lost")
    shuffles: Annotated[
        tuple[Annotated[float, Number, Field(gt=0, le=100)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="percentages of frames whose order is permuted at random")
    reencodings: Annotated[
        tuple[Annotated[int, Whole, Field(ge=1, le=10)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="numbers of times that the decoded audio is coded again")
    noise: Annotated[
        tuple[Annotated[float, Number, Field(ge=-20, le=100)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="signal-to-noise ratios of white noise added before the encoder, dB")
    gain: Annotated[
        tuple[Annotated[float, Number, Field(ge=-80, le=80)], ...], Once, Field(max_length=MOST_SEVERITIES)
    ] = Field(default=(), description="gains before the encoder, undone before scoring, dB")
    metrics: Metrics = Field(default=(), description="metrics to score; default: those of `evaluate`")
    utterances: Annotated[int, Whole, Field(ge=1, le=1_000_000)] = Field(
        default=20, description="number of clips, spread evenly over the test split"
    )


class Evaluate(Section):
    """Measurements on the test split."""

    metrics: Annotated[Metrics, Field(min_length=1)] = Field(
        default=metrics.STANDARD,
        description="metrics to score on the whole test split, in the order of tables, see "
        "`codecbench list metrics`",
    )
    audio_examples: Annotated[int, Whole, Field(ge=0, le=10_000)] = Field(
        default=8,
        description="number of clips whose original and decoded audio is kept in the tracking store, spread "
        "evenly over the test split. Reports offer the best, worst and most different of them for listening",
    )
    snapshots: Annotated[int, Whole, Field(ge=0, le=1000)] = Field(
        default=8,
        description="number of times at which the latents of fixed crops are kept for figures: at the start, "
        "at the end, and in between, more often early in training; 0: none",
    )
    robustness: Robustness | None = Field(
        default=None, description="disturbances to score, see [below](#robustness)"
    )
    stages: Literal["trained", "all"] = Field(
        default="trained",
        description="`trained`: one row per training, with all stages. `all`: quantizers with several stages "
        "also get one row for each smaller number of stages, from the same training. Set their option "
        "`dropout`, so that the decoder is trained with fewer stages, too",
    )
    bit_exact: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="precision of the round-trip check. In fp32 the codes alone must always decode to the "
        "features of the forward pass. `bf16` also runs the encoder in bf16 and counts the codes that differ",
    )
    token_model: Annotated[int, Whole, Field(ge=0, le=1_000_000)] = Field(
        default=0,
        description="training steps of a small autoregressive model of the codes; its perplexity on the test "
        "split is logged, see bitstream.md; 0: no such model",
    )
