"""Curves are joined by what runs have logged; the labels of older stores are read instead."""

from typing import Any

import pytest

from analysis import load
from analysis.figures.code_use import size_figure, sizes
from analysis.results.labels import logged_series, series
from analysis.statistics.comparisons import bd_rates
from analysis.statistics.estimates import summary
from experiments.tracking.schema import TAG


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("fsq 12 bit", "fsq"),
        ("fsq @ 3.0 kbit/s", "fsq"),
        ("fsq@12", "fsq"),
        ("fsq-9", "fsq-9"),
        ("12 bit", "12 bit"),
    ],
)
def test_series_of_a_label(label: str, name: str) -> None:
    assert series(label) == name


def test_curves_join_what_was_logged(store: Any) -> None:
    runs = [
        store.Run(label, bits=bits, quantizer="fsq", effect=bits, tags={"series": name})
        for label, bits, name in (
            ("low", 8.0, "scalar"),
            ("high", 16.0, "scalar"),
            ("made for 8 bit", 8.0, "made for 8 bit"),  # no rate of its own
            ("made for 16 bit", 16.0, "made for 16 bit"),
        )
    ]
    store.study("curves", runs)
    results = load("curves", store.uri)
    frame = summary(results, ["pesq"])
    assert dict(zip(frame["label"], frame["series"], strict=True)) == {
        **dict.fromkeys(("low", "high"), "scalar"),
        "made for 8 bit": "made for 8 bit",
        "made for 16 bit": "made for 16 bit",
    }
    assert bd_rates(results, "pesq").empty  # one curve
    curves = dict(zip(results.finished["label"], results.finished["series"], strict=True))
    drawn = size_figure(sizes(results.finished), curves).axes[0].containers
    assert sorted(len(one[0].get_xdata()) for one in drawn) == [1, 1, 2]


def test_a_run_that_another_study_logged_keeps_its_place_under_a_new_label() -> None:
    tags = {f"{TAG}label": "fsq 12 bit", f"{TAG}series": "fsq", f"{TAG}quantizer": "fsq"}
    assert logged_series(tags, "fsq 12 bit") == "fsq"
    assert logged_series(tags, "scalar range=edge 12 bit") == "scalar range=edge"
    assert logged_series({}, "fsq 12 bit") == "fsq"  # an older store
    assert logged_series({f"{TAG}quantizer": "reference:opus"}, "opus 6 kbit/s") == "opus"
    assert logged_series({f"{TAG}quantizer": "reference:folder"}, "theirs 6 kbit/s") == "theirs"
