"""The file of a store is deleted while a study runs: one message, an end, and nothing is lost."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis import load

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "experiments.cli", "run", "small.yaml", "--no-figures", "--workers", "1"]
CHANGES = ["quantizers=[fsq, vq, rvq]", "train.warm_start=null", "train.checkpoint_every=20"]


@pytest.mark.long
def test_a_deleted_store_ends_the_study_in_words_and_the_same_command_goes_on(
    small_study: str, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(small_study)
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root}
    long = [f"--set={change}" for change in (*CHANGES, "train.steps=4000")]
    told = tmp_path / "told.txt"
    with told.open("w") as output:
        running = subprocess.Popen(
            [*COMMAND, *long], cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("runs/*/state.safetensors")):
        assert running.poll() is None, told.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (tmp_path / "mlflow.db").unlink()
    assert running.wait(120) == 2
    text = told.read_text()
    assert "was deleted or replaced while it was in use. Remedy: put it back" in text
    assert "Traceback" not in text
    assert len(text.splitlines()) < 30, text
    assert not (tmp_path / "mlflow.db").exists()

    short = [f"--set={change}" for change in (*CHANGES, "train.steps=40")]
    done = subprocess.run(
        [*COMMAND, *short], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert list(load("small", f"sqlite:///{tmp_path}/mlflow.db").runs["status"]) == ["finished"] * 3
