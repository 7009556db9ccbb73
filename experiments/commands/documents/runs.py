"""Documents about runs: the list of those of a study, one in full, and two studies compared."""

from typing import Literal

from pydantic import Field

from experiments.commands.documents.document import Document, Part, Real


class ListedRunPart(Part):
    """A run of a study."""

    run_id: str = Field(description="MLflow run id; empty before it is started")
    label: str = Field(description="name of its row")
    seed: int | None = Field(description="null for a reference codec, and before the run is started")
    status: str = Field(description="`running`, `finished`, `failed`, `diverged`, `pruned` or `not started`")
    reason: str = Field(description="reason of a failure or divergence; else empty")
    seconds: Real = Field(description="seconds of training and evaluation; null if not timed")
    run_hash: str = Field(description="identity of the run")
    training_hash: str = Field(description="identity of the training; empty for a reference codec")
    where: str = Field(description="folder of its weights or state, `tracking store`, or empty")


class RunsDocument(Document):
    """`codecbench runs STUDY`: every run of the study."""

    schema_: Literal["codecbench.runs/1"] = Field(default="codecbench.runs/1", alias="schema")
    study: str
    store: str = Field(description="address of the tracking store")
    runs: list[ListedRunPart]


class ShowDocument(Document):
    """`codecbench show RUN`: one run in full."""

    schema_: Literal["codecbench.show/1"] = Field(default="codecbench.show/1", alias="schema")
    run_id: str = Field(description="MLflow run id")
    study: str = Field(description="name of the study that first asked for it")
    name: str = Field(description="its row and seed")
    status: str = Field(description="`running`, `finished`, `failed`, `diverged` or `pruned`")
    reason: str = Field(description="reason of a failure or divergence; else empty")
    superseded: bool = Field(description="true if `run --force` replaced it")
    started: str = Field(description="date and time, ISO 8601")
    seconds: Real = Field(description="seconds from its first start to its end; null until then")
    run_hash: str = Field(description="identity of the run")
    training_hash: str = Field(description="identity of the training; empty for a reference codec")
    weights: str = Field(description="folder of its weights or state; empty where there is none")
    configuration: dict[str, str] = Field(description="logged parameters, by dotted name")
    metrics: dict[str, Real] = Field(description="last value of each metric")
    files: list[str] = Field(description="paths or addresses of its artifacts")


class ComparedRow(Part):
    """A row that both studies have, by one metric."""

    label: str
    metric: str
    first: Real = Field(description="mean in the first study, over the seeds and utterances of both")
    second: Real = Field(description="mean in the second study")
    difference: Real = Field(description="second minus first, paired by seed and utterance")
    low: Real = Field(description="lower end of the 95 % interval")
    high: Real = Field(description="upper end")
    p_value: Real
    p_holm: Real = Field(description="p-value corrected by Holm for all rows of this metric")
    seeds: int
    utterances: int


class CompareDocument(Document):
    """`codecbench compare FIRST SECOND`: paired differences of the rows that both studies have."""

    schema_: Literal["codecbench.compare/1"] = Field(default="codecbench.compare/1", alias="schema")
    first: str
    second: str
    rows: list[ComparedRow]
    left_out: dict[str, str] = Field(description="for each row that is not compared, the reason")
