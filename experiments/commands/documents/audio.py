"""Documents about audio: scores of decoded recordings, the metrics, the reference codecs."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from experiments.commands.documents.document import Document, Part, Real
from experiments.metrics import registry

if TYPE_CHECKING:
    import pandas as pd


class MetricScore(Part):
    """Scores of one system by one metric."""

    metric: str
    unit: str = Field(description="empty for a ratio or a correlation")
    higher_is_better: bool | None = Field(description="null: the value is diagnostic, neither is better")
    asked: int = Field(description="utterances to be scored")
    scored: int = Field(description="utterances with a value")
    failed: int = Field(description="utterances without a value; they are no part of the mean")
    mean: Real
    low: Real = Field(description="lower end of the 95 % bootstrap interval of the mean over utterances")
    high: Real = Field(description="upper end")
    median: Real
    reasons: str = Field(description="failures by reason; empty without any")
    worst: list[str] = Field(description="names of the worst utterances, the worst first")


class System(Part):
    """A folder of decoded audio, or a reference codec."""

    name: str
    bitrate: Real = Field(description="bit/s; null where it is not known")
    scores: list[MetricScore]


class EvaluateDocument(Document):
    """`codecbench evaluate REFERENCE DECODED`: scores of each system by each metric."""

    schema_: Literal["codecbench.evaluate/1"] = Field(default="codecbench.evaluate/1", alias="schema")
    protocol: str = Field(description="version of the evaluation protocol")
    systems: list[System]


def evaluate_document(summary: "pd.DataFrame") -> EvaluateDocument:
    """The document of the aggregates of `experiments.commands.scoring`."""
    systems = []
    for name, group in summary.groupby("system", sort=False):
        scores = []
        for row in group.to_dict("records"):
            metric = registry.get(row["metric"])
            scores.append(
                MetricScore(
                    metric=metric.name,
                    unit=metric.unit,
                    higher_is_better=metric.higher_is_better,
                    asked=row["asked"],
                    scored=row["scored"],
                    failed=row["failed"],
                    mean=row["mean"],
                    low=row["low"],
                    high=row["high"],
                    median=row["median"],
                    reasons=row["reasons"],
                    worst=[*row["worst"]],
                )
            )
        systems.append(System(name=str(name), bitrate=group["bitrate"].iloc[0], scores=scores))
    return EvaluateDocument(protocol=str(summary["protocol"].iloc[0]), systems=systems)


class ListedMetric(Part):
    """A metric."""

    name: str
    unit: str = Field(description="empty for a ratio or a correlation")
    higher_is_better: bool | None = Field(description="null: the value is diagnostic, neither is better")
    sample_rate: int | None = Field(description="sample rate in Hz; null: that of the recording")
    cost: str = Field(description="measured CPU seconds per second of audio on one thread")
    backend: str = Field(description="package or method that computes it, with its version")
    licence: str
    summary: str = Field(description="what it is used for")
    core: bool = Field(description="in the default set of `codecbench evaluate`")
    deterministic: bool
    installed: bool
    install: str = Field(description="arguments of `pip install` that make it available; may be empty")


class ListMetricsDocument(Document):
    """`codecbench list metrics`: every metric."""

    schema_: Literal["codecbench.list-metrics/1"] = Field(default="codecbench.list-metrics/1", alias="schema")
    metrics: list[ListedMetric]


def metrics_document() -> ListMetricsDocument:
    """The document of all metrics."""
    metrics = [registry.get(name) for name in registry.available()]
    return ListMetricsDocument(
        metrics=[
            ListedMetric(
                name=metric.name,
                unit=metric.unit,
                higher_is_better=metric.higher_is_better,
                sample_rate=metric.sample_rate,
                cost=metric.cost,
                backend=metric.version(),
                licence=metric.licence,
                summary=metric.summary,
                core=metric.core,
                deterministic=metric.deterministic,
                installed=not metric.missing(),
                install=metric.install,
            )
            for metric in metrics
        ]
    )


class ListedReference(Part):
    """A reference codec, or a control."""

    name: str
    option: str = Field(description="option that VALUE sets in NAME:VALUE; empty if there is none")
    summary: str


class ListReferencesDocument(Document):
    """`codecbench list references`: codecs by others, and controls."""

    schema_: Literal["codecbench.list-references/1"] = Field(
        default="codecbench.list-references/1", alias="schema"
    )
    references: list[ListedReference]


class ListedStudy(Part):
    """A study that comes with codecbench."""

    name: str
    question: str


class ListStudiesDocument(Document):
    """`codecbench list studies`: the shipped studies."""

    schema_: Literal["codecbench.list-studies/1"] = Field(default="codecbench.list-studies/1", alias="schema")
    studies: list[ListedStudy]
