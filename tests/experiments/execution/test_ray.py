"""A study on a Ray cluster of two nodes, one of which dies while it trains."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from analysis import load
from experiments.execution.executors.ray_cluster import RayCluster
from experiments.execution.jobs import Settings, Update

pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
pytestmark = pytest.mark.slow

# A cluster in a process of its own. On a line of input its second node dies.
CLUSTER = """
import logging, sys
import ray
from ray.cluster_utils import Cluster
memory = 100 * 2**20
head = {"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
node = cluster.add_node(num_cpus=1, object_store_memory=memory)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(node, allow_graceful=False)
print("removed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
COMMAND = [sys.executable, "-m", "experiments.cli", "run", "pair.yaml", "--no-figures"]


@pytest.fixture
def pair(speech: Path) -> str:
    """Two trainings of a few seconds."""
    study = {
        "name": "pair",
        "quantizers": ["fsq", "q2d2-hex"],
        "bits": 9,
        "data": {"corpus": f"manifest:{speech}"},
        "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
        "train": {"steps": 300, "batch_size": 2, "crop_seconds": 0.25, "checkpoint_every": 10},
        "evaluate": {"metrics": ["mel_distance"], "audio_examples": 0},
    }
    return yaml.safe_dump(study)


@contextmanager
def cluster() -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **QUIET},
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.communicate("\n\n", timeout=120)


@pytest.mark.long
def test_a_study_survives_the_death_of_a_node(pair: str, tmp_path: Path) -> None:
    for name in ("local", "cluster"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pair.yaml").write_text(pair)
    local = subprocess.run(COMMAND, cwd=tmp_path / "local", capture_output=True, text=True, check=False)
    assert local.returncode == 0, local.stderr
    here = tmp_path / "cluster"
    with cluster() as (address, nodes):
        with subprocess.Popen(
            [*COMMAND, "--executor", "ray", "--address", address],
            cwd=here,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            deadline = time.monotonic() + 600
            while len(list(here.glob("runs/*/state.safetensors"))) < 2:  # both nodes train
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert nodes.stdin is not None
            assert nodes.stdout is not None
            nodes.stdin.write("\n")
            nodes.stdin.flush()
            assert nodes.stdout.readline() == "removed\n"
            assert len(list(here.glob("runs/*/trained.json"))) < 2  # it died in the middle
            _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said
    assert "2 runs: 2 finished" in said
    pd.testing.assert_frame_equal(results(here), results(tmp_path / "local"), check_exact=True)
    client = MlflowClient(f"sqlite:///{here}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("pair").experiment_id])
    assert sorted(run.data.tags["codecbench.kind"] for run in runs) == ["run", "run", "study"]
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.long
def test_a_board_that_is_lost_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process dies: the runner goes on, and tasks are still told to stop."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    settings = Settings(store_uri="sqlite:///mlflow.db", study="pair", parent_id="", directory=tmp_path)
    with RayCluster().open(settings) as pool:
        board, ray = pool._board, pool.ray
        update = Update(key="a", stage="training")
        assert ray.get(board.exchange.remote([update])) is False
        assert pool._look() == [update]
        pool.stop()
        ray.kill(board, no_restart=False)
        deadline = time.monotonic() + 60
        told = False
        while not told:
            assert time.monotonic() < deadline
            assert pool._look() == []
            with contextlib.suppress(ray.exceptions.RayActorError):  # it is not back yet
                told = ray.get(board.exchange.remote([]))


def results(folder: Path) -> pd.DataFrame:
    runs = load("pair", f"sqlite:///{folder}/mlflow.db").runs.set_index("label")
    names = [n for n in runs.columns if n.startswith(("eval/", "usage/", "rate/", "train/", "validation/"))]
    return runs[[name for name in names if "per_second" not in name]]
