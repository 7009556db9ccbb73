"""Rows are placed by their nominal rate, and by the measured one where training was entropy-constrained."""

from typing import Any

import pytest

from analysis.figures.captions import caption
from analysis.figures.catalogue import rate_distortion
from analysis.results.load import load
from analysis.results.placing import measured_labels, placing_rates
from analysis.statistics.estimates import summary
from analysis.tables.comparison import comparison

NOMINAL = 150.0 * 20


@pytest.fixture(scope="module")
def results(store: Any) -> Any:
    def run(label: str, weight: str | None, coded: float, effect: float) -> Any:
        params = {} if weight is None else {"train.rate_weight": weight}
        tags = {"series": label.split(" ")[0]}
        measured = {"rate/coded": coded}
        return store.Run(label, bits=20.0, params=params, metrics=measured, tags=tags, effect=effect)

    runs = [
        store.Run("none", bits=0.0, params={"train.rate_weight": "0.01"}),
        run("vq", None, 2900.0, 0.1),  # from before there were weights
        run("fsq rate_weight=0", "0.0", 2800.0, 0.2),
        run("fsq rate_weight=0.01", "0.01", 1500.0, -0.2),
        run("hex rate_weight=0.01", "0.01", 1510.0, -0.1),
    ]
    store.study("placing", runs)
    return load("placing", store.uri)


def test_measured_rates_place_what_was_entropy_constrained(results: Any) -> None:
    runs = results.finished
    placed = dict(zip(runs["label"], placing_rates(runs), strict=True))
    assert placed["vq"] == placed["fsq rate_weight=0"] == NOMINAL
    assert placed["fsq rate_weight=0.01"] == 1500
    assert placed["none"] != placed["none"]  # not a number
    assert measured_labels(runs) == ["fsq rate_weight=0.01", "hex rate_weight=0.01"]


def test_without_a_coded_rate_the_entropy_stands_in(results: Any) -> None:
    runs = results.finished.drop(columns="rate/coded")
    placed = dict(zip(runs["label"], placing_rates(runs), strict=True))
    assert placed["fsq rate_weight=0.01"] == pytest.approx(0.95 * NOMINAL)


def test_tables_group_by_it_keep_the_nominal_rate_and_say_so(results: Any) -> None:
    table = comparison(results, ["bitrate", "coded", "pesq"])
    sections = {section.title: [row.label for row in section.rows] for section in table.sections}
    assert sections["at 1.50 kbit/s (within 2 %)"] == ["fsq rate_weight=0.01", "hex rate_weight=0.01"]
    assert sections["at 3.00 kbit/s (within 2 %)"] == ["vq", "fsq rate_weight=0"]
    row = next(
        row for section in table.sections for row in section.rows if row.label == "fsq rate_weight=0.01"
    )
    assert [cell.value for cell in row.cells[:2]] == [pytest.approx(3.0), pytest.approx(1.5)]
    said = [line for line in table.caption if "measured rate" in line]
    assert said[0].endswith("nominal rate: fsq rate_weight=0.01, hex rate_weight=0.01.")


def test_figures_place_it_and_captions_say_so(results: Any) -> None:
    frame = summary(results)
    rates = dict(zip(frame["label"], frame["bitrate"], strict=True))
    assert rates["fsq rate_weight=0.01"] == 1500
    assert rates["fsq rate_weight=0"] == NOMINAL
    drawn = next(figure for figure in rate_distortion(results) if figure.name == "rate-distortion")
    assert "measured" in drawn.figure.axes[0].get_xlabel()
    assert caption(drawn.name, drawn.label or drawn.rate).startswith(
        "Entropy-constrained systems at their measured rate, the others at their nominal one: Quality against"
    )
