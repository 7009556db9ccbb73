"""Runs that are scored on the test split of another corpus: `data.test`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import Result

from analysis import load
from analysis.reports.paper import _commands as provenance_commands
from experiments.common.run_folder import WEIGHTS
from experiments.data import prepare
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity

ROWS = [
    "quantizers=[fsq]",
    "bits=9",
    "references=[ground-truth]",
    "backbone.options={width: 16, blocks: 1}",
    "train={steps: 4, batch_size: 2, crop_seconds: 0.25, warmup_steps: 1, warm_start: {steps: 2}}",
    "evaluate={metrics: [mel_distance], audio_examples: 0}",
]


@pytest.fixture(scope="module")
def noisy(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of test clips alone: those of `speech` in noise."""
    folder = tmp_path_factory.mktemp("noisy")
    generator = np.random.default_rng(0)
    lines = ["path,speaker,split"]
    clean = prepare(f"manifest:{speech}", sample_rate=16_000).split("test")
    for number in range(len(clean)):
        audio = clean.clip(number)
        noise = 0.05 * generator.normal(size=len(audio))
        soundfile.write(folder / f"noisy-{number}.wav", audio + noise, 16_000)
        lines.append(f"noisy-{number}.wav,{clean.speakers[number]},test")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder / "manifest.csv"


def test_trained_runs_are_scored_on_another_corpus_without_training(
    speech: Path, noisy: Path, tmp_path: Path, in_this_process: Callable[..., Result]
) -> None:
    changes = [word for row in ROWS for word in ("--set", row)]
    asked = ["run", "quickstart", "--no-figures", "--workers", "1", "--data", f"manifest:{speech}", *changes]
    in_this_process(tmp_path, *asked)
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob(f"*/{WEIGHTS}")}
    assert len(weights) == 2  # of the warm start and the run
    elsewhere = ["--set", f"data.test=manifest:{noisy}", "--set", "name=in-noise"]
    in_this_process(tmp_path, *asked, *elsewhere)
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob(f"*/{WEIGHTS}")}
    assert again == weights

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    clean, other = load("quickstart", uri), load("in-noise", uri)
    (first,), (second,) = clean.finished.to_dict("records"), other.finished.to_dict("records")
    assert first["starting_weights"] == second["starting_weights"] != ""
    assert first["run_hash"] != second["run_hash"]
    assert second["corpus_hash"] == prepare(f"manifest:{noisy}", sample_rate=16_000).content_hash
    assert second["param/data.content_hash"] == first["corpus_hash"] == first["param/data.content_hash"]
    assert second["param/data.test.content_hash"] == second["corpus_hash"]
    assert "param/data.test.content_hash" not in first
    assert set(other.utterances["utterance"]) == {
        *prepare(f"manifest:{noisy}", sample_rate=16_000).split("test").names
    }
    assert second["eval/mel_distance"] != first["eval/mel_distance"]
    (reference,) = other.finished_references.to_dict("records")
    assert reference["corpus_hash"] == second["corpus_hash"]

    caption = " ".join(in_this_process(tmp_path, "table", "in-noise").output.split())
    trained_on = f"manifest:{speech.name} (hash {first['corpus_hash'][:12]})"
    assert f"Trained on {trained_on}, scored on" in caption
    assert "Trained on" not in in_this_process(tmp_path, "table", "quickstart").output
    ranked = in_this_process(tmp_path, "leaderboard", "quickstart", "in-noise", "--format", "json").output
    trainings = {board["training"] for band in json.loads(ranked)["bands"] for board in band["boards"]}
    assert sum(training.endswith(f" on {trained_on.replace('hash ', '')}") for training in trainings) == 1
    assert f"--set data.test=manifest:{noisy}" in provenance_commands(other)[0]
    assert "data.test" not in provenance_commands(clean)[0]

    planned = in_this_process(tmp_path, "plan", *asked[1:2], *asked[5:], *elsewhere).output
    assert "1 finished" in " ".join(planned.split())


def test_a_corpus_that_is_only_scored_needs_only_a_test_split(
    speech: Path, noisy: Path, tmp_path: Path, in_this_process: Callable[..., Result]
) -> None:
    untested = tmp_path / "untested.csv"
    listed = noisy.read_text().replace("noisy-", f"{noisy.parent}/noisy-")
    untested.write_text(listed.replace(",test", ",val"))
    asked = ["run", "quickstart", "--data", f"manifest:{speech}", "--set", f"data.test=manifest:{untested}"]
    refused = in_this_process(tmp_path, *asked, code=2)
    assert "has no files for test. Remedy:" in " ".join(refused.output.split())
    refused = in_this_process(tmp_path, "run", "quickstart", "--data", f"manifest:{noisy}", code=2)
    assert "train and validation" in " ".join(refused.output.split())


def test_the_same_corpus_as_its_own_test_corpus_changes_no_identity(
    speech: Path, noisy: Path, identify: Callable[[str], CorpusIdentity]
) -> None:
    spec, other = f"manifest:{speech}", f"manifest:{noisy}"
    corpora = {(one, 16_000): identify(one) for one in (spec, other)}
    plain, same, elsewhere = (
        runs.expand(study.load("quickstart", [*ROWS, f"data.corpus={spec}", *more]), corpora)[0]
        for more in ([], [f"data.test={spec}"], [f"data.test={other}"])
    )
    assert plain.hash == same.hash != elsewhere.hash
    assert plain.training_hash == elsewhere.training_hash
    swept = study.load("quickstart", [*ROWS, f"data={{corpus: '{spec}', test: [null, '{other}']}}"])
    rows = runs.expand(swept, corpora)
    assert [run.hash for run in rows] == [plain.hash, elsewhere.hash]
    assert [run.training_hash for run in rows] == [plain.training_hash] * 2
    assert len({run.label for run in rows}) == 2


def test_a_plan_tells_corpora_apart_before_they_are_prepared(
    speech: Path, tmp_path: Path, in_this_process: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "empty"))
    changes = [word for row in ROWS for word in ("--set", row)]
    swept = ["--set", f"data={{corpus: x, test: [null, 'manifest:{speech}']}}", "--data", "demo"]
    planned = in_this_process(tmp_path, "plan", "quickstart", *changes, *swept).output
    assert "corpus: demo at 16000 Hz, not prepared yet" in planned
    assert "scored on: manifest:" in planned
    assert "runs: 2" in planned
    two = ["--set", f"data=[demo, 'manifest:{speech}']"]
    assert "runs: 2" in in_this_process(tmp_path, "plan", "quickstart", *changes, *two).output
