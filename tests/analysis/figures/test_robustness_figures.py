"""Quality under disturbance: read from the store, with the undisturbed test set at severity 0."""

from typing import Any

import pytest

from analysis import load
from analysis.figures.catalogue import robustness
from analysis.figures.robustness import robustness_frame


def disturbed(stoi: float) -> dict[str, float]:
    values: dict[str, float] = {}
    for kind, severities in {
        "undisturbed": (0,),
        "flips": (1, 5),
        "noise": (20, 10),
        "gain": (-12, 12),
    }.items():
        for severity in severities:
            name = f"robustness/{kind}/{severity}/stoi"
            mean = stoi - 0.01 * abs(severity)
            values |= {name: mean, f"{name}_low": mean - 0.02, f"{name}_high": mean + 0.02}
            values[f"{name}_failed"] = 0.0
    return values


@pytest.fixture(scope="module")
def study(store: Any) -> Any:
    runs = [store.Run(label, metrics=disturbed(stoi)) for label, stoi in (("vq", 0.8), ("fsq", 0.9))]
    store.study("disturbed", [*runs, store.Run("rvq")])
    return store


def test_frame_and_figure(study: Any) -> None:
    results = load("disturbed", study.uri)
    frame = robustness_frame(results)
    assert set(frame["label"]) == {"vq", "fsq"}
    assert set(frame["metric"]) == {"stoi"}
    flips = frame[(frame["label"] == "fsq") & (frame["kind"] == "flips")]
    assert list(flips["severity"]) == [0.0, 1.0, 5.0]
    assert flips["mean"].iloc[0] == pytest.approx(0.9)
    assert flips["mean"].iloc[2] == pytest.approx(0.85)
    assert flips["low"].iloc[2] == pytest.approx(0.83)
    assert list(frame[(frame["label"] == "vq") & (frame["kind"] == "noise")]["severity"]) == [10.0, 20.0]
    (drawn,) = robustness(results)
    assert len(drawn.figure.axes) == 3
    assert [text.get_text() for text in drawn.figure.legends[0].get_texts()] == ["vq", "fsq"]


def test_nothing_without_disturbances(seven: Any) -> None:
    assert list(robustness(load("seven", seven.uri))) == []
