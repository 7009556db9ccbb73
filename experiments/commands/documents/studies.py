"""Documents about a study: its plan, its comparison table, its power."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from experiments.commands.documents.document import Count, Document, Part, Real

if TYPE_CHECKING:
    import pandas as pd

    from analysis.tables.table import Cell, Row, Table
    from experiments.planning.plan import Plan


class PlannedCorpus(Part):
    """A corpus of the study at one sample rate."""

    spec: str = Field(description="corpus as written in the study file")
    sample_rate: int = Field(description="Hz")
    content_hash: str = Field(description="empty until the corpus is prepared")
    summary: str = Field(description="clips and hours of each split; empty until it is prepared")
    test_clips: int = Field(description="clips of the test split; 0 until it is prepared")
    only_scored: bool = Field(description="whether no row is trained on it, as of `data.test`")


class PlannedRun(Part):
    """A run of the study."""

    label: str = Field(description="name of its row")
    seed: int | None = Field(description="null for a reference codec")
    hash: str = Field(description="identity of the run, 16 hexadecimal digits")
    corpus: int = Field(description="index in `corpora`, from 0, of the corpus that it is scored on")
    training_hash: str = Field(description="identity of the training; empty for a reference codec")
    warm_start: str = Field(description="`training_hash` of its warm start; empty without one")
    warm_start_steps: int = Field(description="training steps of the warm start")
    steps: int = Field(description="training steps, with those of branches to earlier budgets")
    scorings: int = Field(description="how often the test set is scored: once per training budget")
    config: dict[str, str] = Field(description="parameters that decide its cost")


class PlannedRate(Part):
    """The rate of a row."""

    bits_per_frame: Real
    bitrate: Real = Field(description="bit/s")
    token_rate: Real = Field(description="tokens per second, summed over all streams")
    off: Real = Field(description="difference in percent to the rate of the others if above 2 %; else null")
    about: bool = Field(
        description="true if features decide the levels, so that the rate is known only within 2 %"
    )


class State(Part):
    """The state of a run in the tracking store."""

    status: str = Field(description="`running`, `finished`, `failed`, `diverged` or `pruned`")
    reason: str = Field(description="reason of a failure or divergence; else empty")


class Machine(Part):
    """The machine that would do the work."""

    workers: int = Field(description="processes")
    gpus: int = Field(description="GPUs of this machine")


class Estimate(Part):
    """The time that is left, from runs that were timed."""

    warm_starts: int = Field(description="warm starts to train")
    training: Real = Field(description="seconds of one worker; null if no similar run was timed")
    evaluation: Real = Field(description="seconds of one worker; null if no similar run was timed")
    missing: list[str] = Field(description="reasons why a part is null")
    source: str = Field(description="what the times of trainings are estimated from")
    hours: Real = Field(description="hours with all workers; null if a part is null")


class PlanDocument(Document):
    """`codecbench plan STUDY`: runs, rates, what is finished, and the time that is left."""

    schema_: Literal["codecbench.plan/1"] = Field(default="codecbench.plan/1", alias="schema")
    study: str = Field(description="name of the study")
    question: str
    allow_rate_mismatch: bool = Field(
        description="true if rows of different rates are compared with each other"
    )
    corpora: list[PlannedCorpus]
    runs: list[PlannedRun]
    references: list[PlannedRun] = Field(description="reference codecs")
    rates: dict[str, PlannedRate] = Field(description="by label; a row that spends no bits is left out")
    store: str = Field(description="address of the tracking store")
    states: dict[str, State] = Field(description="by `hash`, of runs that are in the store")
    left: list[str] = Field(description="`hash` of the runs that `codecbench run` would do")
    on_other_corpora: dict[str, int] = Field(
        description="for each other corpus, the number of finished runs of this study"
    )
    weights: list[str] = Field(description="names of the released weights that rows start from")
    missing_weights: dict[str, str] = Field(
        description="by name: the reason why they cannot be read, and the remedy"
    )
    where: Machine
    estimate: Estimate


def plan_document(plan: "Plan", machine: Mapping[str, int]) -> PlanDocument:
    """The document of a plan. machine: `workers` and `gpus`."""
    seconds = plan.estimate.seconds
    hours = None if seconds is None else seconds / 3600 / machine["workers"]
    outline = asdict(plan.outline)
    del outline["search"]  # words for people
    values: dict[str, Any] = {
        **outline,
        "store": plan.store,
        "states": {
            key: {"status": status, "reason": reason} for key, (status, reason) in plan.states.items()
        },
        "left": [run.hash for run in plan.left(plan.outline.runs)],
        "on_other_corpora": plan.on_other_corpora,
        "missing_weights": plan.missing_weights,
        "where": dict(machine),
        "estimate": {**asdict(plan.estimate), "hours": hours},
    }
    return PlanDocument.model_validate(values)


class TableColumn(Part):
    """A column of the table."""

    key: str = Field(description="name of the column in `cells`, and for `--columns`")
    source: str = Field(description="name under which it is logged, such as `eval/pesq`")
    header: str = Field(description="heading in tables")
    unit: str = Field(description="unit of the values; empty for a ratio or a correlation")
    group: str = Field(description="`rate`, `use`, `quality` or `cost`")
    higher_is_better: bool | None = Field(description="null: no value is better than another")


class TableCell(Part):
    """A value of a row."""

    value: Real = Field(description="in the column's unit; null where there is none")
    low: Real = Field(description="lower end of the 95 % interval")
    high: Real = Field(description="upper end of the 95 % interval")
    mark: str = Field(
        description="`best`; `worse`: significantly worse than the best; `tied`: no significant difference "
        "to it; or empty"
    )
    text: str = Field(description="text that replaces a missing value; else empty")


class TableRow(Part):
    """A row: seeds of one label are averaged."""

    label: str
    cells: dict[str, TableCell] = Field(description="by `key` of the column; none where there is a message")
    message: str = Field(description="reason why there are no values; else empty")


class TableSection(Part):
    """Rows of one bitrate, or of one kind."""

    title: str
    comparable: bool = Field(description="whether its rows may be compared with each other")
    rows: list[TableRow]


class TableDocument(Document):
    """`codecbench table STUDY`: the comparison of the study's rows."""

    schema_: Literal["codecbench.table/1"] = Field(default="codecbench.table/1", alias="schema")
    study: str
    title: str
    columns: list[TableColumn]
    sections: list[TableSection]
    caption: list[str]
    notes: list[str]


def table_document(study: str, table: "Table") -> TableDocument:
    """The document of a comparison table."""
    columns = [
        TableColumn(
            key=column.key,
            source=column.source,
            header=column.header,
            unit=column.unit,
            group=column.group,
            higher_is_better=column.higher_is_better,
        )
        for column in table.columns
    ]
    keys = [column.key for column in columns]
    return TableDocument(
        study=study,
        title=table.title,
        columns=columns,
        sections=[
            TableSection(
                title=section.title,
                comparable=section.comparable,
                rows=[_row(row, keys) for row in section.rows],
            )
            for section in table.sections
        ],
        caption=[*table.caption],
        notes=[*table.notes],
    )


def _row(row: "Row", keys: list[str]) -> TableRow:
    cells = {} if row.message else dict(zip(keys, map(_cell, row.cells), strict=True))
    return TableRow(label=row.label, cells=cells, message=row.message)


def _cell(cell: "Cell") -> TableCell:
    return TableCell(value=cell.value, low=cell.low, high=cell.high, mark=cell.mark, text=cell.text)


class Needed(Part):
    """Number of test utterances that this number of seeds needs."""

    seeds: int
    utterances: Count = Field(description="null: no number is enough with so few seeds")


class PowerPair(Part):
    """A pair of rows."""

    first: str
    second: str
    sd_seed: Real = Field(description="standard deviation between seeds of the paired difference")
    sd_utterance: Real = Field(description="the same between utterances")
    sd_rest: Real = Field(description="the same of the residual")
    seeds: int = Field(description="seeds that both rows finished")
    utterances: int = Field(description="utterances that were scored for both")
    detectable: Real = Field(description="smallest difference that is significant with probability `power`")
    needed: list[Needed]


class PowerDocument(Document):
    """`codecbench power STUDY`: seeds and utterances that a difference needs to be significant."""

    schema_: Literal["codecbench.power/1"] = Field(default="codecbench.power/1", alias="schema")
    study: str
    metric: str
    effect: Real = Field(description="true difference, in the unit of the metric")
    power: Real = Field(description="wanted probability that it is significant")
    pairs: list[PowerPair] = Field(
        description="pairs of rows at the rate of the study; the level is 5 %, corrected by Holm"
    )


def power_document(
    study: str, frame: "pd.DataFrame", metric: str, effect: float, wanted: float
) -> PowerDocument:
    """The document of `analysis.statistics.power.power_frame`."""
    pairs = []
    for record in frame.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        needed = [
            Needed(seeds=int(name.split("_")[1]), utterances=row.pop(name))
            for name in list(row)
            if name.startswith("with_")
        ]
        pairs.append(PowerPair.model_validate({**row, "needed": needed}))
    return PowerDocument(study=study, metric=metric, effect=effect, power=wanted, pairs=pairs)
