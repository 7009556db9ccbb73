"""Rows for fewer stages than were trained: one training, evaluated at every number of its first stages."""

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.studies.axes import MOST_LABEL, shortened
from experiments.studies.sections import QuantizerChoice
from experiments.studies.study import Study, StudyError, configuration
from quantizers import registry


@dataclass(frozen=True)
class PrefixRow:
    """A row of the first `stages` of those that another row has trained."""

    stages: int
    label: str
    series: str


def prefix_rows(study: Study, cell: Study, choice: QuantizerChoice) -> Iterator[PrefixRow]:
    """The rows of `choice` at fewer stages, from the most down, if the cell's `evaluate.stages` asks for it.

    They are on the curve of the trained row, or on one of their own where that has rows of other trainings.
    """
    if cell.evaluate.stages != "all":
        return
    quantizer = registry.entry(choice.name).cls
    depth = quantizer.depth_of(configuration(cell, choice))
    series = study.series()
    own = series[choice.row]
    if list(series.values()).count(own) > 1:
        own = shortened(f"{choice.row} by stages", MOST_LABEL)
    for stages in range(depth - 1, 0, -1):
        end = f" first {stages} of {depth} {quantizer.stage_name}"
        yield PrefixRow(stages, shortened(choice.row, MOST_LABEL - len(end)) + end, own)


def check_prefixes(study: Study) -> None:
    """Raise StudyError where stages are asked for that no quantizer has."""
    asking = [cell for cell in study.cells() if cell.evaluate.stages == "all"]
    rows = (row for cell in asking for choice in cell.quantizers for row in prefix_rows(study, cell, choice))
    if asking and next(rows, None) is None:
        raise StudyError(
            f"{study.name}: evaluate.stages: all needs a quantizer with several stages, and the study has "
            "none; remove the key, or add a quantizer such as rvq with several stages, or fsq with dropout"
        )
