from typing import Any

import numpy as np
import pytest

from analysis import ResultsError, load
from analysis.results import RUN_COLUMNS


def test_runs_are_tidy(seven: Any) -> None:
    runs = load("seven", seven.uri).runs
    assert list(runs.columns[: len(RUN_COLUMNS)]) == list(RUN_COLUMNS)
    assert len(runs) == 8
    hexagonal = runs.set_index("label").loc["q2d2-hex"]
    assert hexagonal["rate/bits_per_frame"] == 16.84
    assert hexagonal["param/train.steps"] == "100"
    assert bool(hexagonal["synthetic"]) is True
    assert runs.set_index("label").loc["q2d2-odd", "reason"] == "loss became NaN at step 40"


def test_utterances_keep_failures_as_failures(seven: Any) -> None:
    frame = load("seven", seven.uri).utterances
    assert len(frame) == 7 * 4 * 12  # finished runs, metrics, utterances
    failed = frame[frame["status"] != "ok"]
    assert set(failed["label"]) == {"rvq"}
    assert failed["value"].isna().all()


def test_scores_align_utterances(store: Any) -> None:
    store.study("aligned", [store.Run("fsq", seed=seed) for seed in (0, 1)])
    results = load("aligned", store.uri)
    ids = list(results.runs.sort_values("seed")["run_id"])
    matrix = results.scores("stoi", ids)
    assert matrix.shape == (2, 12)
    np.testing.assert_array_equal(results.scores("stoi", ids[::-1]), matrix[::-1])
    assert results.scores("unknown", ids).shape == (2, 0)


def test_histories(seven: Any) -> None:
    frame = load("seven", seven.uri).histories
    loss = frame[(frame["label"] == "fsq") & (frame["metric"] == "train/loss")]
    assert list(loss["step"]) == list(range(0, 100, 10))
    assert loss["value"].is_monotonic_decreasing


def test_usage_and_latents(seven: Any) -> None:
    results = load("seven", seven.uri)
    run_id = results.runs.set_index("label").loc["q2d2-hex", "run_id"]
    assert [len(counts) for counts in results.histograms(run_id)] == [49, 49]
    assert [sample.shape for sample in results.latents(run_id)] == [(500, 2), (500, 2)]
    assert results.usage["count"].sum() == np.arange(49).sum() + 40 * 7
    none = results.runs.set_index("label").loc["none", "run_id"]
    assert results.histograms(none) == []
    assert results.artifact(none, "latents.npz") is None


def test_the_latest_parent_counts(store: Any) -> None:
    first = store.study("twice", [store.Run("fsq", bits=10), store.Run("vq", bits=10)])
    store.study("twice", [store.Run("fsq", bits=12)])
    assert list(load("twice", store.uri).runs["rate/bits_per_frame"]) == [12]
    assert len(load("twice", store.uri, parent=first).runs) == 2
    assert list(load("twice", store.uri, run_hashes=["vq-0-10"]).runs["label"]) == ["vq"]


def test_the_parent_lists_runs_that_it_reuses(store: Any) -> None:
    first = store.study("reuse", [store.Run("vq"), store.Run("fsq")])
    second = store.study("reuse", [store.Run("q2d2-hex")])
    for parent, hashes in ((first, "vq-0-17.0 fsq-0-17.0"), (second, "vq-0-17.0 q2d2-hex-0-17.0")):
        store.client.set_tag(parent, "codecbench.run_hashes", hashes)
    assert list(load("reuse", store.uri).runs["label"]) == ["vq", "q2d2-hex"]
    assert list(load("reuse", store.uri, parent=first).runs["label"]) == ["vq", "fsq"]


def test_labels_stand_in_the_order_of_the_study_file(store: Any) -> None:
    parent = store.study("order", [store.Run("vq", seed=1), store.Run("fsq"), store.Run("vq")])
    store.client.log_param(
        parent, "quantizers", '[{"name": "fsq", "label": ""}, {"name": "v", "label": "vq"}]'
    )
    results = load("order", store.uri)
    assert list(zip(results.runs["label"], results.runs["seed"], strict=True)) == [
        ("fsq", 0),
        ("vq", 0),
        ("vq", 1),
    ]
    assert "quantizers" in results.settings


def test_a_study_of_none_alone(store: Any) -> None:
    store.study("alone", [store.Run("none", bits=0.0)])
    assert load("alone", store.uri).runs["rate/bitrate"].isna().all()


def test_a_finished_run_wins_over_a_later_failed_one(store: Any) -> None:
    store.study("again", [store.Run("fsq"), store.Run("fsq", status="failed", reason="out of memory")])
    assert list(load("again", store.uri).runs["status"]) == ["finished"]


def test_unknown_study_suggests(seven: Any) -> None:
    with pytest.raises(ResultsError, match="did you mean 'seven'"):
        load("sevn", seven.uri)


def test_empty_study(store: Any) -> None:
    store.study("empty", [])
    with pytest.raises(ResultsError, match="codecbench run empty"):
        load("empty", store.uri)


def test_missing_store_is_not_created(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("nothing") / "mlflow.db"
    with pytest.raises(ResultsError, match="no tracking store"):
        load("seven", f"sqlite:///{path}")
    assert not path.exists()
