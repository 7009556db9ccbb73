"""The whole product: `codecbench run` on small real speech, its store, its files, and what kills do to it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import Result

from analysis import load
from experiments.studies import study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

# A shell starts background jobs with SIGINT ignored, and this test may be in one.
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from experiments.cli import main
if __name__ == "__main__":
    main()
"""
COMMAND = [sys.executable, "-m", "experiments.cli"]


def codecbench(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert not check or done.returncode == 0, done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_study: str) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "small.yaml").write_text(small_study)
    (folder / "first.txt").write_text(codecbench(folder, "run", "small.yaml").stdout)
    return folder


def test_seven_bottlenecks_train_score_and_are_tracked(undisturbed: Path) -> None:
    results = load("small", f"sqlite:///{undisturbed}/mlflow.db")
    wanted = [choice.name for choice in study.load(str(undisturbed / "small.yaml")).quantizers]
    assert list(results.runs["label"]) == wanted
    assert set(results.runs["status"]) == {"finished"}
    assert (results.runs["eval/stoi_asked"] == 2).all()
    coded = results.runs[results.runs["label"] != "none"]
    assert (coded["eval/round_trip_exact"] == 1).all()
    assert coded["rate/bitrate"].max() / coded["rate/bitrate"].min() < 1.02
    assert (coded["rate/entropy_bitrate"] <= coded["rate/bitrate"]).all()
    assert (coded["usage/tokens"] > 500).all()
    assert len(results.utterances) == 7 * 2 * 3
    vq = results.histories.query("label == 'vq' and metric == 'train/loss'")
    assert list(vq["step"]) == [2, 4, 6, 8, 10, 12]
    planar = results.runs[results.runs["label"] == "q2d2-hex"].iloc[0]
    assert len(results.latents(planar["run_id"])) == 3
    assert set(results.audio(planar["run_id"])) == {"test0.wav"}


def test_the_parent_holds_the_warm_start_the_runs_the_tables_and_the_figures(undisturbed: Path) -> None:
    client = MlflowClient(f"sqlite:///{undisturbed}/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["codecbench.kind"] == "study"]
    children = [run for run in runs if run.data.tags["codecbench.kind"] == "run"]
    assert len(children) == 7
    (warm,) = [run for run in runs if run.data.tags["codecbench.kind"] == "warm start"]
    assert {run.data.tags["mlflow.parentRunId"] for run in (*children, warm)} == {parent.info.run_id}
    assert all(run.info.status == "FINISHED" for run in runs)
    losses = client.get_metric_history(warm.info.run_id, "train/loss")
    assert [point.step for point in losses] == [2, 4, 6]
    tables = {entry.path for entry in client.list_artifacts(parent.info.run_id, "tables")}
    assert tables == {f"tables/comparison.{suffix}" for suffix in ("md", "csv", "tex")}
    figures = {entry.path for entry in client.list_artifacts(parent.info.run_id, "figures")}
    assert {
        f"figures/voronoi-q2d2-{g}.{s}" for g in ("hex", "rect", "rhombic") for s in ("png", "svg")
    } <= figures


def test_again_trains_nothing_and_prints_the_same_table(
    undisturbed: Path, in_this_process: Callable[..., Result]
) -> None:
    weights = sorted((undisturbed / "runs").glob("*/codec.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    again = in_this_process(undisturbed, "run", "small.yaml", "--no-figures")
    assert "7 runs are finished already" in again.stderr
    assert again.stdout == (undisturbed / "first.txt").read_text()
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert in_this_process(undisturbed, "table", "small").stdout == again.stdout


def test_an_imported_study_goes_on_where_it_was(
    undisturbed: Path, small_study: str, tmp_path: Path, in_this_process: Callable[..., Result]
) -> None:
    in_this_process(undisturbed, "export", "small", "--output", str(tmp_path / "small.zip"))
    (tmp_path / "small.yaml").write_text(small_study)
    in_this_process(tmp_path, "import", "small.zip")
    said = in_this_process(tmp_path, "run", "small.yaml", "--no-figures").stdout
    # Whoever starts a study of their own is told that its runs are somebody else's.
    told = "Note. ! imported from an archive, and not trained or scored in this store: "
    own, _, rest = said.partition(told)
    labels, _, end = rest.partition("\n")
    assert {"fsq", "vq"} <= set(labels.split(", "))
    assert own + end == (undisturbed / "first.txt").read_text()
    assert not (tmp_path / "runs").exists()


def test_quantizers_are_tried_on_features_of_the_trained_codec(
    undisturbed: Path, in_this_process: Callable[..., Result]
) -> None:
    figure = ["--figure", "curves.svg"]
    small = ["--latents", "small", "--bits", "0.5,0.6", "--steps", "20", "--workers", "1", *figure]
    said = in_this_process(undisturbed, "source-coding", "fsq", "rvq", *small).stdout
    rows = [line.split() for line in said.splitlines() if line.split()[:1] == ["recorded"]]
    assert sorted(row[1] for row in rows) == ["fsq", "fsq", "rvq", "rvq"]
    assert all(0 < float(row[8]) < float(row[5]) for row in rows)  # gap, bound
    assert {row[1]: row[6] == "—" for row in rows} == {"fsq": False, "rvq": True}  # channels
    assert "Gaussian" in (undisturbed / "curves.svg").read_text()


def test_ctrl_c_saves_and_says_how_to_go_on(small_study: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(small_study)
    arguments = ["run", "small.yaml", "--set", "train.steps=5000", "--set", "quantizers=[fsq]"]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 300
        while not (  # the warm start is done, and the bottleneck begun
            list(tmp_path.glob("runs/*/trained.json")) and list(tmp_path.glob("runs/*/state.safetensors"))
        ):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "start the same command again to resume" in said
    assert "Traceback" not in said
    (state,) = (tmp_path / "runs").glob("*/state.safetensors")
    assert state.stat().st_size > 0


@pytest.mark.parametrize("warm_start", [pytest.param("null", marks=pytest.mark.long), "{steps: 20}"])
def test_a_diverging_run_is_a_status_with_a_reason(
    warm_start: str, small_study: str, tmp_path: Path, in_this_process: Callable[..., Result]
) -> None:
    (tmp_path / "small.yaml").write_text(small_study)
    arguments = ["run", "small.yaml", "--set", "quantizers=[fsq]", "--set", "train.learning_rate=1000"]
    arguments += ["--set", "train.matrix_learning_rate=1000", "--set", "train.warmup_steps=0"]
    arguments += ["--set", "train.steps=20", "--set", f"train.warm_start={warm_start}", "--no-figures"]
    done = in_this_process(tmp_path, *arguments, "--workers", "1", code=1)
    assert "1 run: 1 diverged" in done.stderr
    (run,) = load("small", f"sqlite:///{tmp_path}/mlflow.db").runs.to_dict("records")
    assert run["status"] == "diverged"
    assert "not finite in 10 steps in a row" in run["reason"]
    again = in_this_process(tmp_path, *arguments, code=1)
    assert "a run diverged before" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quikstart"], "did you mean 'quickstart'"),
        (["run", "quickstart", "--set", "train.stpes=1"], "quickstart.yaml: unknown key 'train.stpes'"),
        (["run", "quickstart", "--data", "folder:/no/such/folder"], "/no/such/folder"),
        (["table", "quickstart"], "no tracking store"),
        (["run", "quickstart", "--device", "cuda:7"], "use --device cpu"),
    ],
)
def test_mistakes_end_with_one_message(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = codecbench(tmp_path, *arguments, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
