"""JSON documents of a study's table and power, valid by the shipped schemas."""

import json
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from analysis import comparison, load, power_frame
from analysis.statistics import matched_rates
from experiments.cli import app
from experiments.commands.documents import catalogue

SCHEMAS = {catalogue.name_of(model): json.loads(catalogue.shipped(model)) for model in catalogue.DOCUMENTS}


def said(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    jsonschema.validate(values, SCHEMAS[values["schema"]])
    return dict(values)


def test_table_has_the_values_of_the_comparison(seven: Any, tmp_path: Any) -> None:
    values = said("table", "seven", "--tracking-uri", seven.uri)
    table = comparison(load("seven", seven.uri))
    assert [section["title"] for section in values["sections"]] == [each.title for each in table.sections]
    rows = {row["label"]: row for section in values["sections"] for row in section["rows"]}
    for row in table.rows:
        cells = rows[row.label]["cells"]
        assert rows[row.label]["message"] == row.message
        assert bool(cells) != bool(row.message)
        for column, cell in zip(table.columns, row.cells, strict=False):
            if not row.message:
                assert cells[column.key]["value"] == cell.value
                assert cells[column.key]["mark"] == cell.mark
    assert rows["q2d2-odd"]["message"]  # it diverged
    file = tmp_path / "table.json"
    done = CliRunner().invoke(
        app,
        ["table", "seven", "--tracking-uri", seven.uri, "--format", "json", "--output", str(file)],
    )
    assert done.stdout == ""
    assert json.loads(file.read_text()) == values


def test_published_numbers_are_not_mixed_into_json(seven: Any) -> None:
    arguments = ["table", "seven", "--tracking-uri", seven.uri, "--format", "json", "--published"]
    done = CliRunner().invoke(app, [*arguments, "q2d2-librispeech-test-clean"])
    assert done.exit_code == 2


def test_power_has_the_values_of_the_frame(full: Any) -> None:
    arguments = ("power", "full", "--effect", "0.05", "--tracking-uri", full.uri)
    values = said(*arguments)
    results = load("full", full.uri)
    frame = power_frame(results, "pesq", 0.05, matched_rates.coded_labels(results))
    first = frame.iloc[0]
    pair = values["pairs"][0]
    assert len(values["pairs"]) == len(frame)
    assert pair["detectable"] == pytest.approx(first["detectable"])
    needed = {entry["seeds"]: entry["utterances"] for entry in pair["needed"]}
    assert list(needed) == [2, 3, 5, 10]
    assert needed[10] is None or needed[10] == first["with_10_seeds"]
