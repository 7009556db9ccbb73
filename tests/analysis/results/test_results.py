import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import ResultsError, load
from analysis.results.study_results import RUN_COLUMNS
from experiments.tracking.errors import TrackingError
from experiments.tracking.schema import rows


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
    for parent, labels in ((first, ("vq", "fsq")), (second, ("vq", "q2d2-hex"))):
        for key, value in rows({f"{label}-0-17.0": label for label in labels}).items():
            store.client.set_tag(parent, key, value)
    assert list(load("reuse", store.uri).runs["label"]) == ["vq", "q2d2-hex"]
    assert list(load("reuse", store.uri, parent=first).runs["label"]) == ["vq", "fsq"]


def test_runs_of_other_studies_are_found_by_identity_and_bear_the_label_here(store: Any) -> None:
    store.study("lender", [store.Run("vq", bits=9), store.Run("fsq", bits=9, status="failed")])
    parent = store.study("borrower", [store.Run("q2d2-hex", bits=9)])
    labels = {"fsq-0-9": "scalar", "vq-0-9": "a vector", "q2d2-hex-0-9": "planar"}
    for key, value in rows(labels).items():
        store.client.set_tag(parent, key, value)
    found = load("borrower", store.uri).runs
    assert list(found["label"]) == ["scalar", "a vector", "planar"]
    assert list(found["status"]) == ["failed", "finished", "finished"]
    assert list(found["quantizer"]) == ["fsq", "vq", "q2d2-hex"]


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


@pytest.mark.parametrize("name", ["runs", "utterances", "histories", "usage"])
def test_documented_columns_are_those_of_the_frames(seven: Any, name: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "notebook.md").read_text(encoding="utf-8")
    section = page.split(f"## results.{name}\n")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, flags=re.MULTILINE))
    frame = getattr(load("seven", seven.uri), name)
    if name == "runs":
        assert documented == RUN_COLUMNS
        more = [column for column in frame.columns if column not in documented]
        assert all(re.match(r"(rate|usage|eval|cost|train|validation|param)/", column) for column in more)
    else:
        assert list(documented) == list(frame.columns)


def test_audio_goes_by_the_names_of_the_scores(store: Any, tmp_path: Path) -> None:
    store.study("named", [store.Run("fsq", audio=0.01)])
    run_id = load("named", store.uri).runs["run_id"].iloc[0]
    listing = tmp_path / "utterances.json"
    listing.write_text('{"utt00": "speaker one/utt00.wav"}')
    store.client.log_artifact(run_id, str(listing), "audio")
    found = load("named", store.uri).audio(run_id)
    assert set(found) == {"speaker one/utt00.wav", "utt01", "utt02"}
    assert set(found["utt01"]) == {"reference", "reconstruction"}


def test_unknown_study_suggests(seven: Any) -> None:
    with pytest.raises(ResultsError, match="did you mean 'seven'"):
        load("sevn", seven.uri)


def test_empty_study(store: Any) -> None:
    store.study("empty", [])
    with pytest.raises(ResultsError, match="codecbench run empty"):
        load("empty", store.uri)


def test_missing_store_is_not_created(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("nothing") / "mlflow.db"
    with pytest.raises(TrackingError, match="no tracking store"):
        load("seven", f"sqlite:///{path}")
    assert not path.exists()
