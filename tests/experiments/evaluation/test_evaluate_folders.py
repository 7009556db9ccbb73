from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from experiments import metrics
from experiments.commands.evaluate import evaluate
from experiments.commands.metrics import check_metrics, list_metrics
from experiments.evaluation.audio_pairs import ClipFiles, match_folders, read_manifest
from experiments.evaluation.folders import score_pairs
from experiments.evaluation.scores import EvaluationError, score
from experiments.metrics import golden, scoring

RATE = 24000
CLIP = golden.utterance(2.0, RATE)


def write(path, samples=CLIP, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.in.wav")
        write(tmp_path / "out" / f"{name}.out.flac", 0.9 * CLIP)
    return tmp_path / "in", tmp_path / "out"


def test_names_match_without_side_and_file_type(folders):
    left, right = folders
    write(left / "deep" / "c.wav")
    write(right / "deep" / "c.ogg", CLIP, RATE)
    write(left / "only.wav")
    write(right / "extra.wav")
    (left / "notes.txt").write_text("no audio")
    write(left / ".hidden.wav")
    pairs = match_folders(left, right)
    assert list(pairs.references) == ["a", "b", "deep/c", "only"]
    assert list(pairs.reconstructions) == ["a", "b", "deep/c"]
    assert pairs.only_references == ("only",)
    assert pairs.only_reconstructions == ("extra",)


def test_two_files_of_one_name_are_refused(folders):
    write(folders[0] / "a.flac")
    with pytest.raises(EvaluationError, match=r"'a\.flac' and 'a\.in\.wav' are both 'a'"):
        match_folders(*folders)


def test_folders_without_pairs(folders, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(EvaluationError, match=r"2 audio files, such as 'a'.*none has 0 audio files.*--pairs"):
        match_folders(folders[0], tmp_path / "none")
    with pytest.raises(EvaluationError, match="no such folder"):
        match_folders(folders[0], tmp_path / "missing")


def test_manifest(folders, tmp_path):
    manifest = tmp_path / "pairs.csv"
    manifest.write_text("name,reference,reconstruction\nx,a.in.wav,b.out.flac\n,b.in.wav,a.out.flac\n")
    pairs = read_manifest(manifest, *folders)
    assert {name: path.name for name, path in pairs.reconstructions.items()} == {
        "x": "b.out.flac",
        "b": "a.out.flac",
    }
    frame = score_pairs(pairs, ["mel_distance"])
    assert frame["status"].tolist() == ["ok", "ok"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ref,rec\na,b\n", "line 2: needs the columns reference and reconstruction"),
        ("reference,reconstruction\na,b\na,c\n", "line 3: a second row for 'a'"),
        ("reference,reconstruction\n", "no pairs in it"),
        ("reference,reconstruction\n\xff\xfe", "cannot be read as CSV"),
    ],
)
def test_wrong_manifests(folders, tmp_path, text, message):
    manifest = tmp_path / "pairs.csv"
    manifest.write_bytes(text.encode("latin-1"))
    with pytest.raises(EvaluationError, match=message):
        read_manifest(manifest, *folders)


def test_hostile_files_are_statuses(folders):
    left, right = folders
    hostile = {
        "empty": b"",
        "text": b"this is a letter, not a recording\n" * 50,
        "header": None,
    }
    for name, content in hostile.items():
        write(left / f"{name}.wav")
        if content is None:
            write(right / f"{name}.wav", np.zeros(0))
        else:
            (right / f"{name}.wav").write_bytes(content)
    write(left / "nan.wav")
    write(right / "nan.wav", np.full_like(CLIP, np.nan), subtype="FLOAT")
    write(left / "hour.wav")
    write(right / "hour.wav", np.zeros(3600 * 8000), 8000, subtype="PCM_U8")
    write(left / "missing.wav")
    frame = score_pairs(match_folders(left, right), ["stoi"]).set_index("utterance")
    status = frame["status"].to_dict()
    assert status.pop("a") == status.pop("b") == "ok"
    assert status.pop("empty").startswith("cannot be read: ")
    assert status.pop("text") == "cannot be read: Format not recognised"
    assert status.pop("header") == "empty reconstruction"
    assert status.pop("nan") == "reconstruction is not finite: 48000 of 48000 samples"
    assert status.pop("hour") == "cannot be read: too long: 3600 s, at most 300 s; cut it into utterances"
    assert status.pop("missing") == "no reconstruction"
    assert not status


@pytest.mark.parametrize("rate", [8000, 16000, 48000, 96000])
def test_rates_may_differ_and_are_stated(folders, rate):
    left, right = folders
    write(right / "c.wav", golden.utterance(2.0, rate), rate)
    write(left / "c.wav")
    frame = score_pairs(match_folders(left, right), ["stoi", "pesq"]).set_index(["utterance", "metric"])
    assert frame["sample_rate"].to_dict()["c", "stoi"] == rate
    assert frame["sample_rate"].to_dict()["a", "stoi"] == RATE
    assert frame["value"]["c", "stoi"] > 0.95


def test_channels_are_averaged(folders):
    right = folders[1]
    write(right / "a.out.flac", np.stack([CLIP, 0.5 * CLIP], axis=1))
    assert ClipFiles({"a": right / "a.out.flac"}, RATE)["a"] == pytest.approx(0.75 * CLIP, abs=1e-4)


@pytest.fixture
def run():
    app = typer.Typer()
    app.command("evaluate")(evaluate)
    app.command("check-metrics")(check_metrics)
    app.command("list-metrics")(list_metrics)

    def invoke(*arguments):
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])

    return invoke


def test_command_prints_and_writes(folders, run, tmp_path):
    csv, parquet = tmp_path / "new" / "summary.csv", tmp_path / "scores.parquet"
    arguments = ("--metrics", "stoi,mel_distance", "--workers", 1, "--bitrate", 6000)
    result = run("evaluate", *folders, *arguments, "--output", parquet, "--summary", csv)
    assert result.exit_code == 0, result.output
    assert "out: 2 utterances (2 at 24000 Hz)" in result.output
    assert "stoi (pystoi)" in result.output
    summary, scores = pd.read_csv(csv), pd.read_parquet(parquet)
    assert summary["metric"].tolist() == ["stoi", "mel_distance"]
    assert summary["system"].unique().tolist() == ["out"]
    assert summary["bitrate"].unique().tolist() == [6000]
    assert len(scores) == 4
    assert set(scores["sample_rate"]) == {RATE}


def test_command_compares_systems(folders, run):
    result = run(
        "evaluate",
        folders[0],
        *folders,
        "--name",
        "truth",
        "--name",
        "codec",
        "--metrics",
        "stoi",
        "--workers",
        1,
    )
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines() if "±" in line] == ["truth", "codec"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metrics", "peqs"), "did you mean 'pesq'"),
        (("--output", "scores.txt"), "ends in .csv or .parquet"),
        (("--name", "a", "--name", "b"), "--name is given 2 times for 1 folders"),
    ],
)
def test_command_explains_mistakes(folders, run, arguments, message):
    result = run("evaluate", *folders, *arguments)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_names_of_files_are_printed_and_never_obeyed(folders, run, tmp_path):
    left, right = folders
    name = "q'\"[red]\x1b[31m\n<script>alert(1)<"
    write(left / f"{name}.wav")
    write(right / f"{name}.wav", np.zeros_like(CLIP))
    scores = tmp_path / "scores.csv"
    result = run("evaluate", left, right, "--metrics", "stoi", "--workers", 1, "--output", scores)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert "1 x silent reconstruction" in result.output
    assert name in pd.read_csv(scores)["utterance"].tolist()


def test_command_lists_metrics(run):
    result = run("list-metrics")
    assert result.exit_code == 0, result.output
    assert "pesq*" in result.output
    assert "MOS-LQO" in result.output
    assert "torch.hub" not in result.output  # remedies come when a metric is asked for


def test_command_checks_metrics(run, monkeypatch):
    assert run("check-metrics", "--metrics", "pesq,mel_distance").exit_code == 0
    monkeypatch.setattr(golden, "GOLDENS", (golden.Golden("pesq", "identical", 4.0, 0.1),))
    result = run("check-metrics", "--metrics", "pesq")
    assert result.exit_code == 1
    assert "1 values differ" in result.output


@pytest.mark.skipif(not metrics.get("visqol").missing(), reason="installed")
def test_command_says_what_it_could_not_check(run):
    result = run("check-metrics", "--metrics", "pesq_nb,visqol")
    assert result.exit_code == 0, result.output
    assert result.output.count("not checked: metric 'visqol' needs") == 1
    assert "pip install 'visqol-python[lattice]'" in result.output


def test_missing_metric_is_said_before_any_file_is_read(tmp_path, run):
    result = run("evaluate", tmp_path, tmp_path / "missing", "--metrics", "stio")
    assert "did you mean 'stoi'" in str(result.exception)


# ---- told before anything is scored ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{out}", "{root}/missing"), "missing: no such folder"),
        (("{out}", "{out}/a.out.flac"), "a.out.flac: a file, not a folder"),
        (("{out}", "{root}/empty"), "no pairs"),
        (("{out}", "--pairs", "{root}/nothing.csv"), "nothing.csv: No such file"),
    ],
)
def test_command_looks_at_everything_before_it_scores(folders, run, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    given = [part.format(out=folders[1], root=tmp_path) for part in arguments]
    result = run("evaluate", folders[0], *given, "--workers", 1)
    assert isinstance(result.exception, ValueError), result.output
    assert message in str(result.exception)
    assert "utterances" not in result.output


def test_command_fails_where_nothing_is_scored(folders, run, tmp_path):
    (tmp_path / "pairs.csv").write_text("reference,reconstruction\ngone.wav,gone.wav\n")
    result = run("evaluate", *folders, "--pairs", tmp_path / "pairs.csv", "--metrics", "stoi", "--workers", 1)
    assert result.exit_code == 1
    assert "nothing could be scored" in result.output


def test_command_lists_what_it_does_not_read(folders, run):
    (folders[0] / "x.m4a").write_bytes(b"x")
    result = run("evaluate", *folders, "--metrics", "stoi", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "not read: 1: " in result.output
    assert ".m4a cannot be read" in result.output.replace("\n", " ")


def test_score_without_metrics_is_an_error():
    with pytest.raises(EvaluationError, match="no metrics"):
        score({"a": CLIP}, {"a": CLIP}, RATE, [])


# ---- a reference cache that fails is no cache ------------------------------------------------------------


def broken_caches(root):
    (root / "file").write_text("")
    yield root / "file"
    yield root / "file" / "below"
    yield "/proc/codecbench-cannot-be-made-here"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cache_that_fails_is_one_warning_and_no_lost_score(tmp_path, workers, caplog):
    clips = {str(number): np.roll(CLIP, number) for number in range(4)}
    expected = score(clips, clips, RATE, ["vuv_f1"])
    for cache in broken_caches(tmp_path):
        caplog.clear()
        frame = score(clips, clips, RATE, ["vuv_f1"], workers=workers, reference_cache=Path(cache))
        pd.testing.assert_frame_equal(frame, expected)
        [record] = caplog.records
        assert record.getMessage().startswith(f"no reference cache: {cache}: ")


def test_a_cache_on_a_full_disk_is_one_warning(tmp_path, monkeypatch, caplog):
    def full(target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scoring, "replacing", full)
    frame = score({"a": CLIP, "b": CLIP}, {"a": CLIP, "b": CLIP}, RATE, ["vuv_f1"], reference_cache=tmp_path)
    assert frame["status"].tolist() == ["ok", "ok"]
    assert [record.getMessage().split(": ", 2)[2] for record in caplog.records] == [
        "No space left on device; references are computed for each system anew"
    ]


def test_a_damaged_entry_of_the_cache_is_made_again(tmp_path, caplog):
    first = score({"a": CLIP}, {"a": CLIP}, RATE, ["vuv_f1"], reference_cache=tmp_path)
    [entry] = tmp_path.glob("*.npz")
    whole = entry.read_bytes()
    for content in (b"", whole[:-40], whole[:60], b"no archive at all", whole.replace(b"NUMPY", b"NUMPX")):
        entry.write_bytes(content)
        pd.testing.assert_frame_equal(
            score({"a": CLIP}, {"a": CLIP}, RATE, ["vuv_f1"], reference_cache=tmp_path), first
        )
        assert np.load(entry).files
    assert not caplog.records
