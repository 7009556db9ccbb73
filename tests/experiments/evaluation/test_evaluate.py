import numpy as np
import pandas as pd
import pytest

from experiments.evaluation import scores as evaluate
from experiments.evaluation.scores import EvaluationError, aggregate, bootstrap_interval, score
from experiments.metrics import MetricUnavailable, golden, pool

RATE = 16000
NAMES = ("stoi", "estoi", "mel_distance", "vuv_f1")


@pytest.fixture(scope="module")
def clips():
    whole = golden.utterance(5.0, RATE)
    return {f"u{number}": whole[number * 8000 : number * 8000 + 32000] for number in range(5)}


@pytest.fixture(scope="module")
def decoded(clips):
    noise = golden.noise(32000, 5).astype(np.float32)
    return {name: clip + 0.005 * (index + 1) * noise for index, (name, clip) in enumerate(clips.items())}


@pytest.fixture(scope="module")
def frame(clips, decoded):
    return score(clips, decoded, RATE, NAMES)


def test_one_row_for_each_utterance_and_metric(frame, clips):
    assert list(frame.columns) == ["utterance", "metric", "value", "status", "backend", "protocol"]
    assert list(zip(frame["utterance"], frame["metric"], strict=True)) == [
        (u, m) for u in clips for m in NAMES
    ]
    assert set(frame["status"]) == {"ok"}
    assert frame["value"].notna().all()
    assert set(frame["protocol"]) == {"v1"}
    assert frame.loc[frame["metric"] == "stoi", "backend"].str.fullmatch(r"pystoi \d+\.\d+.*").all()


def test_workers_and_cache_change_no_bit(frame, clips, decoded, tmp_path):
    try:
        for _ in range(2):
            again = score(clips, decoded, RATE, NAMES, workers=2, reference_cache=tmp_path)
            pd.testing.assert_frame_equal(again, frame)
    finally:
        pool.close()
    assert len(list(tmp_path.glob("*.npz"))) == len(clips)


def test_cached_references_are_used_and_a_broken_cache_is_replaced(clips, decoded, tmp_path):
    expected = score(clips, decoded, RATE, ["vuv_f1"], reference_cache=tmp_path)
    stored = sorted(tmp_path.glob("*.npz"))
    with np.load(stored[0]) as arrays:
        tracks = dict(arrays)
    # All unvoiced: seen only if the cache is read.
    np.savez(stored[0], **{key: np.zeros_like(track) for key, track in tracks.items()})
    tampered = score(clips, decoded, RATE, ["vuv_f1"], reference_cache=tmp_path)
    assert (tampered["status"] == "no voiced frame in the reference").sum() == 1
    stored[0].write_bytes(b"cut short by a kill")
    pd.testing.assert_frame_equal(score(clips, decoded, RATE, ["vuv_f1"], reference_cache=tmp_path), expected)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_and_no_failure_has_a_value(clips, decoded, workers):
    references = dict(clips, empty=np.zeros(0, np.float32), silent=np.zeros(32000, np.float32))
    broken = dict(decoded, empty=np.zeros(0, np.float32), silent=decoded["u1"])
    broken["u0"] = np.where(np.arange(32000) < 10, np.nan, broken["u0"]).astype(np.float32)
    del broken["u2"]
    try:
        frame = score(references, broken, RATE, ["stoi", "mel_distance"], workers=workers)
    finally:
        pool.close()
    assert len(frame) == 14
    assert (frame["value"].isna() == (frame["status"] != "ok")).all()
    status = frame.set_index(["utterance", "metric"])["status"]
    assert status["u0", "stoi"] == "reconstruction is not finite: 10 of 32000 samples"
    assert status["u2", "stoi"] == "no reconstruction"
    assert status["empty", "mel_distance"] == "empty reference"
    assert status["silent", "stoi"] == "silent reference"
    assert status["silent", "mel_distance"] == "ok"
    totals = aggregate(frame).set_index("metric")
    assert totals.loc["stoi", ["asked", "scored", "failed"]].tolist() == [7, 3, 4]
    assert totals.loc["stoi", "reasons"].count("1 x") == 4


def test_clips_that_cannot_be_read_are_a_status(clips, decoded):
    class Files(dict):
        def __getitem__(self, name):
            if name == "u3":
                raise OSError("Format not recognised")
            return super().__getitem__(name)

    frame = score(clips, Files(decoded), RATE, ["mel_distance"])
    assert frame["status"].tolist() == ["ok"] * 3 + ["cannot be read: Format not recognised"] + ["ok"]


def test_progress_counts_every_utterance(clips, decoded):
    seen = []
    some = {name: decoded[name] for name in list(decoded)[:3]}
    score(clips, some, RATE, ["mel_distance"], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 5) for number in range(1, 6)]


def test_wrong_requests_are_refused(clips, decoded):
    with pytest.raises(MetricUnavailable, match="did you mean 'stoi'"):
        score(clips, decoded, RATE, ["stio"])
    with pytest.raises(EvaluationError, match="no reference, such as 'extra'"):
        score(clips, dict(decoded, extra=clips["u0"]), RATE, ["stoi"])
    with pytest.raises(EvaluationError, match="workers"):
        score(clips, decoded, RATE, ["stoi"], workers=0)


def test_no_utterances_give_an_empty_frame():
    frame = score({}, {}, RATE, ["stoi"])
    assert frame.empty
    assert list(frame.columns) == list(evaluate.COLUMNS)
    assert aggregate(frame).empty


def made_up(values, metric="pesq"):
    status = ["no speech found" if np.isnan(value) else "ok" for value in values]
    names = [f"u{index}" for index in range(len(values))]
    return pd.DataFrame({"utterance": names, "metric": metric, "value": values, "status": status})


def test_aggregate_counts_and_averages_what_was_scored():
    (row,) = aggregate(made_up([1.0, 2.0, np.nan, 6.0])).to_dict("records")
    assert (row["asked"], row["scored"], row["failed"]) == (4, 3, 1)
    assert row["mean"] == 3
    assert row["median"] == 2
    assert row["low"] <= 3 <= row["high"]
    assert row["reasons"] == "1 x no speech found"
    assert row["worst"] == ("u0", "u1", "u3")


def test_worst_follows_the_direction_of_the_metric():
    values = [1.0, 3.0, 2.0, 0.0]
    assert aggregate(made_up(values, "mel_distance"), worst=2)["worst"].item() == ("u1", "u2")
    assert aggregate(made_up(values, "pesq"), worst=2)["worst"].item() == ("u3", "u0")


def test_aggregate_of_failures_alone_has_no_numbers():
    (row,) = aggregate(made_up([np.nan, np.nan])).to_dict("records")
    assert (row["asked"], row["scored"], row["failed"]) == (2, 0, 2)
    assert all(np.isnan(row[key]) for key in ("mean", "low", "high", "median"))


def test_interval_does_not_depend_on_the_order_of_rows():
    frame = made_up(list(np.random.default_rng(0).normal(3, 1, 40)))
    shuffled = frame.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(aggregate(frame), aggregate(shuffled))
    assert aggregate(frame, seed=1)["low"].item() != aggregate(frame, seed=2)["low"].item()


def test_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(0, 2, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)
    narrow = bootstrap_interval(values, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(2)
    hits = 0
    for trial in range(300):
        low, high = bootstrap_interval(generator.normal(1.0, 0.5, 60), seed=trial, resamples=500)
        hits += low <= 1 <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_interval_needs_two_utterances():
    assert np.isnan(bootstrap_interval(np.array([1.0]))).all()
    assert bootstrap_interval(np.array([2.0, 2.0])) == (2, 2)
