"""Commands that look after studies, on real runs: two studies, one row of the first trained again."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pytest
import soundfile
import torch
import yaml
from typer.testing import CliRunner

import analysis
from experiments.cli import app
from experiments.commands.documents import catalogue
from experiments.common import run_folder
from experiments.tracking.named_runs import RunError
from experiments.tracking.reader import reader

DOCS = Path(__file__).parents[3] / "docs"
SCHEMAS = {catalogue.name_of(model): json.loads(catalogue.shipped(model)) for model in catalogue.DOCUMENTS}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


class Done(NamedTuple):
    """A folder in which studies were run, and the files of their warm start before the second command."""

    folder: Path
    uri: str
    warm_start: dict[str, tuple[int, bytes]]
    first: dict[str, Any]  # `runs first` before anything was trained again


def command(*arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done


def document(*arguments: str) -> dict[str, Any]:
    values = json.loads(command(*arguments, "--format", "json").stdout)
    jsonschema.validate(values, SCHEMAS[values["schema"]])
    return dict(values)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def done(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("looking-after")
    study = {
        "name": "first",
        "quantizers": ["fsq", {"name": "vq", "label": "vq [v2]"}],
        "bits": 9,
        "data": {"corpus": f"manifest:{speech}"},
        "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
        "train": {"steps": 4, "batch_size": 2, "crop_seconds": 0.25, "warm_start": {"steps": 2}},
        "evaluate": {"metrics": ["mel_distance"], "audio_examples": 0, "snapshots": 0},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        options = ("--workers", "1", "--no-figures", "--quiet")
        Path("first.yaml").write_text(yaml.safe_dump(study))
        study["name"] = "second"
        study["train"] |= {"steps": 5}  # type: ignore[operator]
        Path("second.yaml").write_text(yaml.safe_dump(study))
        command("run", "first.yaml", *options)
        before = document("runs", "first")
        trainings = {run["training_hash"] for run in before["runs"]}
        (start,) = (path for path in Path("runs").iterdir() if path.name not in {*trainings, "references"})
        warm_start = contents(start)
        command("run", "first.yaml", "--force", "--only", "fsq", *options)
        assert contents(start) == warm_start
        command("run", "second.yaml", "--only", "fsq", *options)
        yield Done(folder, f"sqlite:///{folder}/mlflow.db", warm_start, before)


def test_only_one_row_was_trained_again_and_the_warm_start_was_kept(done: Done) -> None:
    before = {run["label"]: run for run in done.first["runs"]}
    after = {run["label"]: run for run in document("runs", "first")["runs"]}
    assert after["vq [v2]"] == before["vq [v2]"]
    assert after["fsq"]["run_hash"] == before["fsq"]["run_hash"]
    assert after["fsq"]["run_id"] != before["fsq"]["run_id"]
    assert after["fsq"]["status"] == "finished"
    assert after["fsq"]["where"] == f"runs/{after['fsq']['training_hash']}"


def test_a_row_that_is_not_there_is_refused(done: Done) -> None:
    said = command("run", "first.yaml", "--only", "fsk", code=2).output
    assert "--only fsk: the study has no such row; did you mean 'fsq'? its rows: fsq, vq [v2]" in said


def test_runs_tells_what_was_not_started(done: Done) -> None:
    listed = document("runs", "second")["runs"]
    assert [(run["label"], run["status"]) for run in listed] == [
        ("fsq", "finished"),
        ("vq [v2]", "not started"),
    ]
    assert listed[0]["seconds"] > 0
    shown = command("runs", "second").stdout
    assert "vq [v2]" in shown
    assert "2 runs: 1 finished, 1 not started" in shown


def test_show_has_configuration_values_and_files(done: Done) -> None:
    run = document("runs", "first")["runs"][0]
    by_hash, by_id = document("show", run["run_hash"][:8]), document("show", run["run_id"])
    assert by_hash == by_id
    assert by_hash["run_id"] == run["run_id"]  # not the one that was put aside
    assert by_hash["configuration"]["train.steps"] == "4"
    assert by_hash["metrics"]["eval/mel_distance"] > 0
    files = {Path(file).name: Path(file) for file in by_hash["files"]}
    assert {"config.yaml", "utterances.parquet", "trained.json"} <= set(files)
    assert all(file.is_file() for file in files.values())
    said = command("show", run["training_hash"]).stdout
    assert f"weights: runs/{run['training_hash']}" in said
    assert "train.steps" in said
    score = next(line for line in said.splitlines() if "eval/mel_distance" in line)
    count = f"{by_hash['metrics']['eval/mel_distance_asked']:g}"
    assert score.endswith(f"{count} of {count} utterances")
    assert "eval/mel_distance_asked" not in said
    old = document("show", done.first["runs"][0]["run_id"])
    assert old["superseded"]


@pytest.mark.parametrize(("given", "words"), [("zzzz", "no run 'zzzz' in"), ("ab", "too short")])
def test_show_of_nothing(given: str, words: str, done: Done) -> None:
    assert words in command("show", given, code=2).output


def test_compare_has_the_differences_of_the_scores(done: Done) -> None:
    values = document("compare", "first", "second")
    (row,) = values["rows"]
    assert (row["label"], row["metric"], row["seeds"], row["utterances"]) == ("fsq", "mel_distance", 1, 2)
    means = []
    for study in ("first", "second"):
        scores = analysis.load(study, done.uri).utterances
        means.append(scores[scores["label"] == "fsq"]["value"].mean())
    assert row["first"] == pytest.approx(means[0])
    assert row["difference"] == pytest.approx(means[1] - means[0])
    assert values["left_out"] == {"vq [v2]": "second has no such row"}
    assert "not compared: vq [v2]" in command("compare", "first", "second").stdout
    assert "give two studies" in command("compare", "first", "first", code=2).output


def test_three_lines_load_encode_and_decode(done: Done, tmp_path: Path) -> None:
    run = document("runs", "first")["runs"][1]
    sound = 0.1 * np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", sound, 24_000)
    audio = torch.from_numpy(sound).unsqueeze(0)
    names: dict[str, Any] = {"RUN": run["run_hash"][:8], "audio": audio, "FILE": tmp_path / "in.wav"}
    page = (DOCS / "trained_codecs.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(block, "trained_codecs.md", "exec"), names)
    assert names["codes"].dtype == torch.int64
    assert soundfile.info("decoded.wav").frames == 16_000
    of_folder = analysis.load_codec(run["where"])
    of_store = analysis.load_codec(run["run_id"], done.uri, runs_folder=tmp_path)
    for codec in (of_folder, of_store):
        assert torch.equal(codec.encode(audio), names["codes"])
        assert not any(parameter.requires_grad for parameter in codec.parameters())
    with pytest.raises(RunError, match="there is no file"):
        analysis.load_codec("runs/nothing")


def test_clean_lists_asks_and_deletes(done: Done) -> None:
    """Last: it deletes what the tests above look at."""
    first = document("runs", "first")["runs"]
    state = Path(first[1]["where"]) / run_folder.STATE
    state.write_bytes(bytes(1000))
    other = Path("runs") / ("0" * 16)
    other.mkdir()
    (other / run_folder.WEIGHTS).write_bytes(bytes(500))
    listed = command("clean").stdout
    assert f"states: {state} (1.0 kB)" in listed
    assert f"superseded: fsq, run {done.first['runs'][0]['run_id']}" in listed
    assert f"unused: {other} (500 bytes)" in listed
    assert "nothing was deleted; --yes deletes" in listed
    assert state.exists()
    command("clean", "--kind", "states", "--yes")
    assert not state.exists()
    command("clean", "--yes")
    assert other.exists()  # it must be named
    assert not (Path("runs") / run_folder.REFERENCES).exists()
    left = {run.info.run_id for run in reader(done.uri).runs(["1", "2"], {"kind": ("run",)})}
    assert done.first["runs"][0]["run_id"] not in left
    assert {run["run_id"] for run in first} <= left
    assert document("runs", "first")["runs"] == first
    command("table", "first")
    command("clean", "--kind", "unused", "--yes")
    assert not other.exists()
    assert "nothing to delete" in command("clean").stdout
    assert "--kind old: there are: states" in command("clean", "--kind", "old", code=2).output
