"""Quality at several budgets: order, differences, figure and sentence, on values whose answer is known."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.figures.budgets import budget_figure
from analysis.statistics.budgets import budget_differences, budget_means, order


def frame(values: dict[str, list[float]], steps: tuple[int, ...] = (500, 1000, 2000)) -> pd.DataFrame:
    """Two seeds of each label, 0.1 apart; values by budget."""
    rows = [
        (label, seed, step, 0.01 * step, value + 0.1 * seed)
        for label, of_label in values.items()
        for seed in (0, 1)
        for step, value in zip(steps, of_label, strict=True)
    ]
    return pd.DataFrame(rows, columns=["label", "seed", "steps", "seconds", "value"])


@pytest.mark.parametrize(
    ("values", "since", "moves"),
    [
        ({"fsq": [1.0, 1.2, 1.4], "vq": [0.9, 1.1, 1.3]}, 500, False),
        ({"fsq": [1.0, 1.2, 1.4], "vq": [1.1, 1.1, 1.3]}, 1000, False),
        ({"fsq": [1.0, 1.2, 1.4], "vq": [1.1, 1.3, 1.3]}, 2000, True),
        ({"fsq": [1.0, 1.2, 1.4], "vq": [0.9, 1.3, 1.3]}, 2000, True),
    ],
)
def test_the_order_has_stood_since(values: dict[str, list[float]], since: int, moves: bool) -> None:
    found = order(frame(values), higher_is_better=True)
    assert found is not None
    assert found.labels == ("fsq", "vq")
    assert (found.since, found.moves) == (since, moves)
    turned = order(frame(values), higher_is_better=False)
    assert turned is not None
    assert turned.labels == ("vq", "fsq")


def test_there_is_no_order_of_one_budget_one_system_or_no_direction() -> None:
    two = frame({"fsq": [1.0, 1.2, 1.4], "vq": [0.9, 1.1, 1.3]})
    assert order(two, None) is None
    assert order(two[two["steps"] == 500], True) is None
    assert order(two[two["label"] == "vq"], True) is None
    assert order(two.iloc[:0], True) is None


def test_differences_are_paired_over_seeds() -> None:
    values = frame({"fsq": [1.0, 1.2, 1.4], "vq": [0.9, 1.1, 1.3]})
    values.loc[(values["label"] == "vq") & (values["seed"] == 1), "value"] += 0.02
    found = budget_differences(values, "fsq")
    assert list(found["steps"]) == [500, 1000, 2000]
    assert found["difference"].tolist() == pytest.approx([-0.09] * 3)
    half = (
        12.7062 * 0.02 / math.sqrt(2) / math.sqrt(2)
    )  # t of one degree of freedom, two differences 0.02 apart
    assert (found["high"] - found["difference"]).tolist() == pytest.approx([half] * 3, rel=1e-4)
    alone = budget_differences(values[values["seed"] == 0], "fsq")
    assert alone["difference"].tolist() == pytest.approx([-0.1] * 3)
    assert np.isnan(alone["low"]).all()
    assert budget_differences(values, "rvq").empty


def test_the_figure_shows_every_budget() -> None:
    values = frame({"fsq": [1.0, 1.2, 1.4], "vq": [0.9, 1.1, 1.3]})
    means = budget_means(values)
    assert means[means["label"] == "vq"]["mean"].tolist() == pytest.approx([0.95, 1.15, 1.35])
    assert set(means["seeds"]) == {2}
    figure = budget_figure(means, budget_differences(values, "fsq"), "fsq", "PESQ ↑")
    by_steps, by_seconds, apart = figure.axes
    assert [text.get_text() for text in by_steps.get_xticklabels()] == ["500", "1,000", "2,000"]
    assert len(by_steps.lines) == 2
    assert by_seconds.lines[0].get_xdata().tolist() == pytest.approx([5, 10, 20])
    assert apart.get_ylabel() == "difference to fsq"


def test_results_and_the_answer_know_budgets(store: Any) -> None:
    from analysis import load
    from analysis.reports.answer import answer
    from analysis.statistics.budgets import by_budget

    store.study("budgets", [store.Run(name, seed=seed) for name in ("fsq", "vq") for seed in (0, 1)])
    results = load("budgets", store.uri)
    for run in results.runs.to_dict("records"):
        ahead = 0.2 if run["label"] == "fsq" else 0.0
        for steps in (500, 1000):
            store.client.log_metric(run["run_id"], "budget/pesq", 1 + ahead + steps / 1e4, step=steps)
            store.client.log_metric(run["run_id"], "budget/train_seconds", steps / 10, step=steps)
    results = load("budgets", store.uri)
    found = by_budget(results, "pesq", ["fsq", "vq"])
    assert len(found) == 8
    assert found[(found["label"] == "fsq") & (found["steps"] == 500)]["value"].tolist() == [1.25, 1.25]
    assert set(found["seconds"]) == {50.0, 100.0}
    (sentence,) = [each for each in answer(results, ["fsq", "vq"]) if "order" in each]
    assert sentence == (
        "By PESQ the order of the 2 systems has been the same since 500 steps, the first of the budgets "
        "up to 1,000."
    )


@pytest.mark.parametrize("seconds", [(310.0, 480.0), (88.0, 411.0), (1.0, 1.1), (3.0, 9000.0)])
def test_an_axis_of_seconds_has_two_numbers_or_more(seconds: tuple[float, float]) -> None:
    frame = pd.DataFrame(
        {
            "label": "fsq",
            "steps": [300, 600],
            "seconds": seconds,
            "mean": 1.5,
            "low": 1.4,
            "high": 1.6,
            "seeds": 3,
        }
    )
    apart = pd.DataFrame(columns=["label", "steps", "difference", "low", "high"])
    figure = budget_figure(frame, apart, "rvq", "PESQ")
    figure.draw_without_rendering()
    axis = figure.axes[1]
    least, most = axis.get_xlim()
    numbers = [tick for tick in axis.get_xticks() if least <= tick <= most]
    assert 2 <= len(numbers) <= 12
