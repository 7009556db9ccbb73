"""`codecbench train` in two processes that torchrun started: one that ends alone ends all, and tells why."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from experiments.common.run_folder import SNAPSHOTS
from experiments.data import prepare
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity, Run
from experiments.tracking.schema import FAILED, FINISHED, KIND_RUN, status_of
from experiments.tracking.store import Store

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = ["-m", "experiments.cli", "train", "pair.yaml", "--device", "cpu"]


@pytest.fixture
def pair(speech: Path, tmp_path: Path) -> Run:
    """A run of a study file in `tmp_path`."""
    values: dict[str, Any] = {
        "name": "pair",
        "quantizers": ["fsq"],
        "bits": 9,
        "data": {"corpus": f"manifest:{speech}"},
        "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
        "train": {"steps": 60, "batch_size": 2, "crop_seconds": 0.25, "checkpoint_every": 5},
        "evaluate": {"metrics": ["mel_distance"], "audio_examples": 0, "snapshots": 4},
    }
    (tmp_path / "pair.yaml").write_text(yaml.safe_dump(values))
    corpus = f"manifest:{speech}"
    shards = prepare(corpus, sample_rate=16_000)
    identity = CorpusIdentity(
        spec=corpus, name=shards.name, content_hash=shards.content_hash, synthetic=shards.synthetic
    )
    return runs.expand(study.load(str(tmp_path / "pair.yaml")), identity)[0]


def start(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*TORCHRUN, *TRAIN],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"},
    )


def status(folder: Path) -> tuple[str, str]:
    (run,) = Store(f"sqlite:///{folder}/mlflow.db", "pair").search(kind=KIND_RUN)
    return status_of(run)


def test_what_fails_in_the_first_process_alone_ends_all(pair: Run, tmp_path: Path) -> None:
    blocked = tmp_path / "runs" / pair.training_hash / SNAPSHOTS
    blocked.mkdir(parents=True)  # only the first process writes this file
    with start(tmp_path) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode not in (0, None)
    assert status(tmp_path)[0] == FAILED
    assert SNAPSHOTS in status(tmp_path)[1]
    assert f"failed: {status(tmp_path)[1]}" in said


@pytest.mark.long
def test_a_process_that_is_killed_fails_nothing(pair: Run, tmp_path: Path) -> None:
    with start(tmp_path) as process:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("runs/*/state.safetensors")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ranks = [child for child in psutil.Process(process.pid).children() if "train" in child.cmdline()]
        (second,) = [rank for rank in ranks if rank.environ()["RANK"] == "1"]
        second.send_signal(signal.SIGKILL)
        process.communicate(timeout=300)
    assert process.returncode not in (0, None)
    assert status(tmp_path)[0] not in (FAILED, FINISHED)
    with start(tmp_path) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert status(tmp_path) == (FINISHED, "")
