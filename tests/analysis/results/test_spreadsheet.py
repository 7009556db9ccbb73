"""CSV files that a spreadsheet opens: no label is taken for a formula, and no number is changed."""

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import load
from analysis.figures.style import save
from analysis.results.spreadsheet import plain, plain_frame
from analysis.tables.comparison import comparison
from analysis.tables.formats import render

FORMULAS = ["=1+1", "+cmd", "-a", "@SUM(A1)", "\t=1", "=HYPERLINK(A1)"]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_begins_a_formula_is_marked(text: str) -> None:
    assert plain(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "fsq", "-1", "+0.5", "-1e-3", "-inf", "a=b", "1-2"])
def test_other_texts_and_numbers_stay(text: str) -> None:
    assert plain(text) == text


def test_a_table_of_hostile_labels(store: Any) -> None:
    labels = [label for label in FORMULAS if "\t" not in label]
    runs = [store.Run(label, effect=-9.0) for label in labels]
    runs.append(store.Run("lost", status="failed", reason="=1+1"))
    store.study("formulas", runs)
    table = comparison(load("formulas", store.uri), ["mel_distance", "stoi"])
    rows = list(csv.reader(io.StringIO(render(table, "csv"))))
    assert {row[0] for row in rows[1:]} == {*(f"'{label}" for label in labels), "lost"}
    assert not [cell for row in rows for cell in row if cell[:1] in "=+@" and cell]
    numbers = [cell for row in rows[1:-1] for cell in row[2:4]]
    assert len([float(number) for number in numbers]) == 2 * len(labels)
    assert any(number.startswith("-") for number in numbers)
    assert rows[-1][-1] == "failed: =1+1"


def test_data_of_figures_keep_their_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": ["=1", "b"], "value": [-0.1, 1e-300], "=x": [True, False]})
    save(Figure(), tmp_path / "figure", ("svg",), frame)
    assert (tmp_path / "figure.csv").read_text() == "label,value,'=x\n'=1,-0.1,True\nb,1e-300,False\n"
    same = pd.DataFrame({"label": ["a"], "value": [-1]})
    pd.testing.assert_frame_equal(plain_frame(same), same)
