"""The best is the best by every metric, and a study shows the metrics that it asks for."""

import json
import math
from typing import Any

import pandas as pd
import pytest

from analysis import load
from analysis.figures.catalogue import utterances
from analysis.figures.differences import differences_to_best
from analysis.figures.trade_offs import cost_figure, cost_frame
from analysis.reports.answer import answer
from analysis.reports.listening import choose
from analysis.reports.paper import write_paper
from analysis.results.columns import COLUMNS, quality_column, select
from analysis.results.study_metrics import (
    all_keys,
    asked_metrics,
    default_keys,
    expanded_keys,
    logged_metrics,
    quality_keys,
)
from analysis.statistics.best import best_first, best_of
from analysis.statistics.comparisons import pairwise, ranks_across
from analysis.statistics.estimates import summary
from analysis.statistics.leaders import leaders
from analysis.tables.comparison import comparison
from analysis.tables.formats import render
from experiments import metrics

LESS_IS_BETTER = {
    *("mel_distance", "stft_distance", "log_spectral_distance", "pitch_rmse", "periodicity_rmse"),
    *("wer", "cer", "pitch_rmse_torchcrepe", "periodicity_rmse_torchcrepe"),
}
DIAGNOSES = {"delay"}  # neither more nor less of them is better
UNKNOWN = "of_a_later_version"


@pytest.fixture(scope="module")
def study(store: Any) -> Any:
    """Two quantizers on three seeds by every metric and an unknown one; the scores of `low` are below those
    of `high` on every utterance."""
    scored = dict.fromkeys([*metrics.available(), UNKNOWN], (5.0, 0.1))
    runs = [
        store.Run(label, seed=seed, effect=10.0 * (label == "high"), scored=scored, audio=0.01)
        for label in ("low", "high")
        for seed in range(3)
    ]
    asked = ["wer", "pesq", UNKNOWN]
    store.study("directions", runs, {"evaluate.metrics": json.dumps(asked)})
    return load("directions", store.uri)


@pytest.mark.parametrize("metric", [name for name in metrics.available() if name not in DIAGNOSES])
def test_the_best_is_marked_by_every_metric(study: Any, metric: str) -> None:
    best, worst = ("low", "high") if metric in LESS_IS_BETTER else ("high", "low")
    for key in (metric, f"eval/{metric}"):
        table = comparison(study, [key])
        marks = {row.label: row.cells[0].mark for row in table.rows}
        assert marks == {best: "best", worst: "worse"}
        assert table.columns[0].arrow == ("↓" if metric in LESS_IS_BETTER else "↑")
    assert leaders(study, metric, ["low", "high"]) == (best, frozenset(), frozenset({worst}))
    (pair,) = pairwise(study, metric, [worst, best]).to_dict("records")
    assert pair["improvement"] == 1.0
    assert list(ranks_across(study, metric)["label"]) == [best, worst]
    assert set(differences_to_best(study, ["low", "high"], [metric])["best"]) == {best}


@pytest.mark.parametrize("metric", [UNKNOWN, *DIAGNOSES])
def test_a_metric_without_direction_is_shown_without_judgement(study: Any, metric: str) -> None:
    table = comparison(study, [f"eval/{metric}"])
    assert [row.cells[0].mark for row in table.rows] == ["", ""]
    assert all(row.cells[0].value is not None for row in table.rows)
    assert table.columns[0].arrow == ""
    assert leaders(study, metric, ["low", "high"]) is None
    assert pairwise(study, metric, ["low", "high"]).empty
    assert ranks_across(study, metric).empty
    assert differences_to_best(study, ["low", "high"], [metric]).empty
    assert not any(metric in sentence for sentence in answer(study, ["low", "high"]))
    (panel,) = cost_figure(cost_frame(study, metric)).get_axes()
    assert not any(line.get_color() == "#999999" for line in panel.get_lines())  # no front
    assert quality_column("round_trip_exact").higher_is_better is None


def test_every_column_states_the_direction_of_its_metric() -> None:
    for metric, (unit, higher) in metrics.facts().items():
        assert COLUMNS[metric].higher_is_better is higher
        assert higher is (None if metric in DIAGNOSES else metric not in LESS_IS_BETTER)
        assert unit == metrics.get(metric).unit
    disturbed = select(["robustness/flips/5/wer", "robustness/noise/20/stoi", "rate/new", "cost/new_seconds"])
    assert [column.higher_is_better for column in disturbed] == [False, True, None, False]


def test_what_is_asked_for_is_shown_everywhere(study: Any, tmp_path: Any) -> None:
    assert asked_metrics(study) == ["wer", "pesq", UNKNOWN]
    table = comparison(study)
    shown = [column.source for column in table.columns if column.source.startswith("eval/")]
    assert shown == ["eval/wer", "eval/pesq", f"eval/{UNKNOWN}"]
    assert [sentence.split(" has the best ")[1][:4] for sentence in answer(study, ["low", "high"])[:2]] == [
        "WER ",
        "PESQ",
    ]
    assert list(dict.fromkeys(summary(study)["metric"])) == ["wer", "pesq", UNKNOWN]
    (scatter,) = utterances(study)
    assert scatter.name == "utterances-wer"
    assert list(scatter.data.columns) == ["utterance", "high", "low", "difference"]
    assert "low better on 12 of 12" in scatter.figure.axes[0].get_title()
    audio = {
        label: study.audio(study.finished[study.finished["label"] == label]["run_id"].iloc[0])
        for label in ("low", "high")
    }
    reasons = [chosen.why for chosen in choose(study, ["low", "high"], audio)]
    assert all("by WER" in why for why in reasons)
    write_paper(study, tmp_path)
    quality = pd.read_csv(tmp_path / "tables" / "quality.csv")
    assert [name for name in quality.columns if "wer" in name or "pesq" in name or "stoi" in name] == [
        *("wer", "wer_low", "wer_high", "wer_mark"),
        *("pesq (MOS-LQO)", "pesq_low", "pesq_high", "pesq_mark"),
    ]


def test_scored_counts_every_metric_that_was_asked_for(store: Any) -> None:
    scored = dict.fromkeys(["stoi", "vuv_f1"], (0.5, 0.1))
    failed = {"utt01": "no voiced frames"}
    runs = [store.Run(label, scored=scored, failed=failed, fails="vuv_f1") for label in ("fsq", "vq")]
    store.study("asked", runs, {"evaluate.metrics": '["vuv_f1", "stoi"]'})
    results = load("asked", store.uri)
    for columns in (["all"], ["stoi", "scored"]):  # whether or not the column of the metric is shown
        table = comparison(results, columns)
        place = [column.key for column in table.columns].index("scored")
        assert [row.cells[place].text for row in table.rows] == ["11/12", "11/12"]
        assert "fsq: V/UV F1 failed on 1 of 12 (1 x no voiced frames)" in table.notes
    assert "V/UV F1 ↑ | STOI ↑" in render(comparison(results), "markdown")


def test_a_store_that_does_not_say_shows_what_was_scored(store: Any) -> None:
    scored = dict.fromkeys(["zeta", "stoi", "wer"], (0.5, 0.1))
    for name, settings in (("silent", {}), ("cut", {"evaluate.metrics": '["stoi", "we'})):
        store.study(name, [store.Run("fsq", scored=scored)], settings)
        results = load(name, store.uri)
        assert asked_metrics(results) == ["stoi", "wer", "zeta"]
        assert logged_metrics(results) == ["stoi", "wer", "zeta"]


@pytest.mark.parametrize(
    ("asked", "keys"),
    [
        (["stoi", "pesq"], ["stoi", "pesq"]),
        (["pesq", "stoi", "estoi"], ["pesq", "stoi", "estoi"]),
        (["wer"], ["wer"]),
        (["zeta", "wer"], ["eval/zeta", "wer"]),
    ],
)
def test_columns_of_quality(store: Any, asked: list[str], keys: list[str]) -> None:
    name = "columns-" + "-".join(asked)
    store.study(name, [store.Run("fsq")], {"evaluate.metrics": json.dumps(asked)})
    results = load(name, store.uri)
    assert quality_keys(results) == [*keys, "scored"]
    assert default_keys(results) == ("bitrate", *keys, "used_fraction")
    assert all_keys(results)[: len(keys) + 2] == ("bitrate", *keys, "scored")
    assert expanded_keys(results, ["real_time_factor", "all"]) == tuple(
        dict.fromkeys(["real_time_factor", *all_keys(results)])
    )


def test_best_of() -> None:
    values = {"a": 1.0, "b": math.nan, "c": 3.0, "d": 3.0, "e": 1.0}
    assert best_first(values, True) == ["c", "d", "a", "e"]
    assert best_first(values, False) == ["a", "e", "c", "d"]
    assert best_of(values, True) == "c"
    assert best_of(values, False) == "a"
    assert best_of(values, None) is None
    assert best_of({}, True) is None
    assert best_of({"b": math.nan}, True) is None
