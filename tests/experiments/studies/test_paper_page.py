"""docs/paper.md: its column `ours` is what the study `paper` says, and it leaves no key of the study out."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.studies import files, study
from experiments.studies.study import Study, configuration
from quantizers import registry

PAGE = Path(__file__).parents[3] / "docs" / "paper.md"
BOOKKEEPING = ("name", "question", "zip", "quantizers")


@pytest.fixture(scope="module")
def paper() -> Study:
    return study.load("paper")


def listed() -> dict[str, Any]:
    """The column `ours` of the first table by key."""
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"`[\w.-]+`", cells[0]):
            assert cells[0].strip("`") not in rows
            rows[cells[0].strip("`")] = yaml.safe_load(cells[3].strip("`"))
    return rows


def value_of(paper: Study, key: str) -> Any:
    section, *inside = key.split(".")
    if section == "quantizers":
        return of_quantizer(paper, *inside)
    for axis in paper.axes:
        if key in axis.keys:
            return [step[axis.keys.index(key)] for step in axis.steps]
    value = paper.model_dump(mode="json")[section]
    if section == "data":
        return value["corpus"]
    for part in inside:
        value = value[part]
    return value


def of_quantizer(paper: Study, row: str, option: str) -> Any:
    """An option of a row, or its values in the cells where they differ."""
    values = []
    for cell in paper.cells():
        for choice in cell.quantizers:
            if choice.label.split(" ")[0] == row:
                values.append(registry.plain_options(choice.name, configuration(cell, choice))[option])
    assert len(values) == 3
    return values if len(set(map(str, values))) > 1 else values[0]


def keys_of(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" not in BOOKKEEPING:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("key", listed())
def test_ours_is_what_the_study_says(key: str, paper: Study) -> None:
    ours, said = value_of(paper, key), listed()[key]
    assert (float(said) if isinstance(ours, float) else said) == ours


def test_no_key_of_the_study_is_left_out() -> None:
    rows = listed()
    assert len(rows) > 30
    for key in keys_of(files.read("paper")[0]):
        assert key in rows or f"{key}.name" in rows, key
    options = {key.split(".")[-1] for key in rows if key.startswith("quantizers.vq-released.")}
    choices = {choice.row: choice.options for choice in study.load("paper").quantizers}
    assert set(choices["vq-released"]) <= options
    assert choices["vq"]["commitment"] == choices["rvq"]["commitment"] == 1.0
