"""References beside quantizers: one table, one rate-distortion figure, reused when finished."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import Result

from analysis import load
from experiments.studies import study
from experiments.studies.study import StudyError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

RATES = (6_000, 9_000, 14_000, 24_000)


def codecbench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments.cli", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_study: str) -> Path:
    folder = tmp_path_factory.mktemp("references")
    values = yaml.safe_load(small_study)
    values["quantizers"] = ["vq", "fsq", "q2d2-rhombic"]
    values["train"] |= {"steps": 4, "checkpoint_every": 4, "warm_start": None}
    values["evaluate"]["metrics"] = ["pesq", "stoi"]
    values["evaluate"]["robustness"] = {
        "flips": [5, 50],
        "noise": [10],
        "shuffles": [100],
        "metrics": ["stoi"],
        "utterances": 1,
    }
    values["evaluate"]["bit_exact"] = "bf16"
    values["evaluate"]["token_model"] = 2
    values["references"] = [*(f"opus:{rate}" for rate in RATES), "ground-truth", "wavtokenizer:/no/such.ckpt"]
    (folder / "small.yaml").write_text(yaml.safe_dump(values))
    done = codecbench(folder, "run", "small.yaml")
    (folder / "table.txt").write_text(done.stdout)
    (folder / "said.txt").write_text(done.stderr)
    return folder


def test_opus_at_four_rates_beside_three_quantizers(folder: Path) -> None:
    results = load("small", f"sqlite:///{folder}/mlflow.db")
    assert set(results.finished["label"]) == {"vq", "fsq", "q2d2-rhombic"}
    assert results.finished["precision"].isin(["fp32", "bf16"]).all()
    opus = results.finished_references.set_index("label").filter(like="opus", axis=0)
    assert len(opus) == 4
    assert (opus["quantizer"] == "reference:opus").all()
    tags = [MlflowClient(results.tracking_uri).get_run(run_id).data.tags for run_id in opus["run_id"]]
    assert [tag["codecbench.series"] for tag in tags] == ["opus"] * 4
    for label, run in opus.iterrows():
        asked = float(str(label).split()[1]) * 1000
        assert run["rate/bitrate"] == pytest.approx(asked, rel=0.25), label
    assert opus["eval/pesq"].is_monotonic_increasing
    truth = results.finished_references.set_index("label").loc["ground-truth"]
    assert truth["eval/pesq"] == pytest.approx(4.644, abs=0.001)
    assert len(results.reference_utterances) == 5 * 2 * 2


def test_one_table_and_one_figure_show_both(folder: Path, in_this_process: Callable[..., Result]) -> None:
    table = (folder / "table.txt").read_text()
    assert "references: not trained here, each at its own rate" in table
    assert table.index("q2d2-rhombic") < table.index("references:") < table.index("opus 24 kbit/s")
    assert "weights not found: there is no /no/such.ckpt" in table
    figures = folder / "results" / "small" / "figures"
    assert (figures / "rate-distortion-references.png").stat().st_size > 0
    assert in_this_process(folder, "table", "small").stdout == table


def test_a_reference_that_cannot_run_does_not_fail_the_study(folder: Path) -> None:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["codecbench.kind"] == "study"]
    assert parent.data.tags["codecbench.status"] == "finished"
    (lost,) = [run for run in runs if run.data.tags["codecbench.status"] == "failed"]
    assert lost.data.tags["codecbench.reference"] == "true"
    assert "weights not found" in (folder / "said.txt").read_text()


def test_again_scores_only_what_could_not_run(folder: Path, in_this_process: Callable[..., Result]) -> None:
    again = in_this_process(folder, "run", "small.yaml", "--workers", "1", "--no-figures")
    assert "3 runs are finished already" in again.stderr
    assert "1 run to do" in again.stderr
    assert again.stdout == (folder / "table.txt").read_text()


def test_robustness_is_logged_for_quantizers_and_drawn(folder: Path) -> None:
    runs = load("small", f"sqlite:///{folder}/mlflow.db").finished.set_index("label")
    for severity in ("flips/5", "flips/50", "noise/10", "shuffles/100"):
        assert runs[f"robustness/{severity}/stoi"].notna().all()
        assert (runs[f"robustness/{severity}/stoi_asked"] == 1).all()
    assert (folder / "results" / "small" / "figures" / "robustness.png").stat().st_size > 0


def test_rates_are_logged_and_tokens_are_modelled_on_request(folder: Path) -> None:
    runs = load("small", f"sqlite:///{folder}/mlflow.db").finished
    assert (runs["rate/coded"] < runs["rate/bitrate"]).all()
    assert (runs["rate/coded"] <= runs["rate/coded_adaptive"]).all()
    assert runs["rate/modelled"].between(0, 1.3 * runs["rate/bitrate"]).all()
    assert (runs["usage/token_perplexity"] > 1).all()


def test_the_round_trip_in_bf16_is_logged_on_request(folder: Path) -> None:
    runs = load("small", f"sqlite:///{folder}/mlflow.db").finished
    assert (runs["eval/bf16_round_trip_exact"] == 1).all()
    assert runs["eval/bf16_codes_differ"].between(0, 1).all()


def test_a_folder_and_a_codec_get_rows_of_the_study(
    folder: Path, speech: Path, in_this_process: Callable[..., Result]
) -> None:
    arguments = ["evaluate", str(speech.parent), "--metrics", "stoi", "--workers", "1", "--study", "small"]
    codecs = ["--codec", "opus:8000", "--name", "opus outside"]
    in_this_process(folder, *arguments, *codecs)
    in_this_process(folder, *arguments, str(speech.parent), "--name", "mine", "--bitrate", "1500")
    in_this_process(folder, *arguments, *codecs)  # takes the place of the first
    found = load("small", f"sqlite:///{folder}/mlflow.db").finished_references.set_index("label")
    assert list(found.index).count("opus outside") == 1
    assert found.loc["mine", "rate/bitrate"] == 1500
    assert found.loc["mine", "eval/stoi"] == pytest.approx(1)
    assert found.loc["opus outside", "rate/bitrate"] == pytest.approx(8000, rel=0.25)
    table = in_this_process(folder, "table", "small").stdout
    assert table.index("references on other audio") < table.index("opus outside")


@pytest.mark.parametrize(
    ("references", "words"),
    [
        (["opsu"], r"references\.0: unknown reference codec 'opsu'; did you mean 'opus'"),
        ([{"name": "opus", "options": {"bitrate": 100}}], "6000 to 256000"),
        (["opus", "opus:12000"], "two rows have the label 'opus 12 kbit/s'"),
        ([{"name": "pcm", "label": "vq"}], "two rows have the label 'vq'"),
    ],
)
def test_mistakes_in_a_study_name_the_place(references: list[object], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        study.check({"name": "x", "quantizers": ["vq"], "bits": 12, "references": references}, "x.yaml")
