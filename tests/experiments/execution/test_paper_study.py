"""The study `paper` in seconds: its file and recipe with smaller sizes, from training to figures."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from analysis import load
from analysis.figures.writing import Target, draw
from experiments.common import tensor_files
from experiments.common.run_folder import WEIGHTS
from experiments.studies import study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="each sitting is forked"),
]

STEPS = 2
ROWS = ["vq-released", "q2d2-rhombic-released"]
SIZES = {"encoder_width": 4, "lstm_layers": 1, "dim": 32, "width": 32, "hidden": 32, "blocks": 1}
SMALLER = {
    "extends": "paper",
    "name": "paper-in-seconds",
    "bitrate": [1067],
    "backbone": {"name": ["wavtokenizer-53"], "options": SIZES},
    "seeds": [0],
    "train": {
        "objective": {"name": "wavtokenizer", "options": {"discriminator_width": 0.03}},
        "steps": STEPS,
        "batch_size": 2,
        "accumulate": 1,
        "crop_seconds": 0.15,
        "log_every": 1,
        "validate_every": 4,
        "checkpoint_every": 1,
    },
    "evaluate": {"metrics": ["stoi"], "audio_examples": 0, "snapshots": 0},
}


@pytest.fixture(scope="module")
def file(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    published = {choice.row: choice.model_dump() for choice in study.load("paper").quantizers}
    rows = [published[row] for row in ROWS]
    rows[0]["options"]["kmeans_iterations"] = 2
    rows[0]["bits"] = 6
    path = tmp_path_factory.mktemp("paper") / "paper-in-seconds.yaml"
    path.write_text(yaml.safe_dump({**SMALLER, "quantizers": rows, "data": f"manifest:{speech}"}))
    return path


@pytest.fixture(scope="module")
def told(file: Path) -> dict[str, Any]:
    """What `killed_once` says of the study."""
    script = Path(__file__).with_name("killed_once.py")
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, str(script), str(file.parent), str(file)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "CODECBENCH_LEASE_SECONDS": "20"},
    )
    said = "\n".join(path.read_text() for path in file.parent.glob("*/said.txt"))
    assert done.returncode == 0, f"{done.stderr}\n{said}"
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["codes"] == [0, 0], said
    assert "Traceback" not in said
    return told


def test_what_is_not_size_is_the_recipe(file: Path) -> None:
    small, paper = study.load(str(file)).train, study.load("paper").train
    kept = set(type(paper).model_fields) - set(SMALLER["train"])
    assert all(getattr(small, key) == getattr(paper, key) for key in kept)
    weights = [train.objective.options for train in (small, paper)]
    assert {**weights[0], "discriminator_width": 1.0} == weights[1]
    assert study.load(str(file)).backbone.options["conditions"] == 4


def test_killed_and_started_again_it_goes_on_to_the_same_results(
    told: dict[str, Any], file: Path, logged: Any, differences: Any
) -> None:
    [resumed] = told["states"]
    whole, killed = file.parent / "whole", file.parent / "killed"
    assert not list(differences(logged(killed), logged(whole)))
    client = MlflowClient(f"sqlite:///{killed}/mlflow.db")
    experiment = client.get_experiment_by_name(SMALLER["name"])
    filter_ = f"tags.`codecbench.training_hash` = '{resumed}'"
    [run] = client.search_runs([experiment.experiment_id], filter_)
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in losses] == list(range(1, STEPS + 1))
    assert losses[0].timestamp < told["killed_at"] < losses[-1].timestamp  # it did not begin again
    for path in whole.glob(f"runs/*/{WEIGHTS}"):
        first, second = (
            tensor_files.read(place / "runs" / path.parent.name / WEIGHTS)[0] for place in (whole, killed)
        )
        assert all(bool((second[key] == value).all()) for key, value in first.items())


def test_scored_tabled_and_drawn(told: dict[str, Any], file: Path, tmp_path: Path) -> None:
    killed = file.parent / "killed"
    store = f"sqlite:///{killed}/mlflow.db"
    results = load(SMALLER["name"], store)
    assert list(results.runs["status"]) == ["finished", "finished"]
    assert results.runs["eval/stoi"].notna().all()
    assert results.runs["rate/bitrate"].max() == pytest.approx(1066.6, abs=0.1)
    table = (killed / "results" / SMALLER["name"] / "tables" / "comparison.md").read_text()
    assert all(row in table for row in ROWS)
    draw(results, Target(tmp_path, "paper", ("svg",)), only=["utilisation", "learning"])
    assert {path.stem for path in tmp_path.rglob("*.svg")} == {"utilisation", "learning-curves"}
