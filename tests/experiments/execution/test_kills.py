"""Kills at any moment: a study that was killed often ends as one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from experiments.common import tensor_files
from experiments.common.run_folder import WEIGHTS, is_intact

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="each sitting is forked"),
]

SEED = 20


@pytest.fixture
def study(speech: Path, tmp_path: Path) -> Path:
    """Two quantizers after a warm start, and a reference: four jobs of a second or two."""
    values = {
        "name": "killed",
        "quantizers": ["vq", "q2d2-hex"],
        "bits": 9,
        "references": ["pcm"],
        "data": {"corpus": f"manifest:{speech}"},
        "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
        "train": {
            "steps": 12,
            "batch_size": 2,
            "crop_seconds": 0.25,
            "warmup_steps": 1,
            "log_every": 1,
            "validate_every": 4,
            "checkpoint_every": 2,
            "warm_start": {"steps": 6},
        },
        "evaluate": {"metrics": ["mel_distance"], "audio_examples": 1, "snapshots": 4},
    }
    path = tmp_path / "killed.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.long)])
def test_a_study_that_is_killed_often_ends_as_one_that_was_not(
    kills: int, study: Path, tmp_path: Path, logged: Any, differences: Any
) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("killed_study.py")),
            tmp_path,
            study,
            str(kills),
            str(SEED),
        ],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "OMP_NUM_THREADS": "1",
            "CODECBENCH_LEASE_SECONDS": "20",
        },
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said = (killed / "said.txt").read_text()
    assert told["undisturbed"] == 0, (whole / "said.txt").read_text()
    assert told["codes"][-1] == 0, said
    assert told["codes"].count(None) >= kills / 4  # it was killed, and not always when it was over
    assert "Traceback" not in said
    mine, theirs = logged(killed), logged(whole)
    assert len(mine) == 5  # the study, its warm start, two runs and the reference
    assert not list(differences(mine, theirs)), told

    folders = sorted(path.parent.name for path in whole.glob(f"runs/*/{WEIGHTS}"))
    assert len(folders) == 3
    for name in folders:
        assert is_intact(killed / "runs" / name)
        first, second = (tensor_files.read(place / "runs" / name / WEIGHTS)[0] for place in (whole, killed))
        assert all(bool((second[key] == value).all()) for key, value in first.items())
        files = [{path.name for path in (place / "runs" / name).iterdir()} for place in (whole, killed)]
        assert files[0] == files[1]  # nothing half-written stays
    client = MlflowClient(f"sqlite:///{killed}/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    models = client.search_logged_models(ids)
    assert sorted(str(model.status) for model in models) == ["READY"] * 3
