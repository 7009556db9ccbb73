"""Never twice: killed again and again, and shared by two runners, a study ends as an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import Result

from analysis import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

COMMAND = [sys.executable, "-m", "experiments.cli", "run", "--no-figures"]
RUNS, WARM_STARTS = 18, 3
KILLS = 5
SEED = random.SystemRandom().randrange(10**6)


@pytest.fixture(scope="module")
def study(speech: Path) -> dict[str, Any]:
    """Three quantizers at two rates with three seeds."""
    return {
        "name": "grid",
        "quantizers": [
            {"name": name, "label": f"{name} {bits} bit", "bits": bits}
            for name in ("vq", "fsq", "q2d2-hex")
            for bits in (6, 9)
        ],
        "allow_rate_mismatch": True,
        "seeds": [0, 1, 2],
        "data": {"corpus": f"manifest:{speech}"},
        "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
        "train": {
            "steps": 8,
            "batch_size": 2,
            "crop_seconds": 0.25,
            "warmup_steps": 1,
            "log_every": 2,
            "validate_every": 4,
            "checkpoint_every": 2,
            "warm_start": {"steps": 4},
        },
        "evaluate": {"metrics": ["mel_distance"], "audio_examples": 0},
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, study: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "grid.yaml").write_text(yaml.safe_dump(study))
    done = subprocess.run(
        [*COMMAND, "grid.yaml"], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "18 runs: 18 finished" in done.stderr
    return folder


@pytest.mark.long
def test_killed_five_times_and_shared_by_two_runners_it_ends_as_an_undisturbed_one(
    undisturbed: Path, study: dict[str, Any], tmp_path: Path, logged: Any, differences: Any
) -> None:
    draw = random.Random(SEED)
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(study))
    with runner(tmp_path, "runs") as first:
        for kill in range(3):
            reach(tmp_path, 1 + 3 * kill, first)
            time.sleep(draw.uniform(0, 1))
            first.restart()
        # The second one shares nothing but the store, as another machine would.
        with runner(tmp_path, "other_runs") as second:
            for kill in range(3, KILLS):
                reach(tmp_path, 1 + 3 * kill, first, second)
                time.sleep(draw.uniform(0, 1))
                draw.choice((first, second)).restart()
            said = [first.finish(), second.finish()]
    assert said[0] == said[1]
    assert all(label in said[0] for label in ("vq 6 bit", "fsq 9 bit", "q2d2-hex 9 bit"))
    mine, theirs = logged(tmp_path), logged(undisturbed)
    assert len(mine) == len(theirs) == 1 + WARM_STARTS + RUNS
    assert mine.keys() == theirs.keys()
    assert not list(differences(mine, theirs)), f"seed {SEED}"


def test_another_study_reuses_its_runs_under_its_own_labels(
    study: dict[str, Any],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    in_this_process: Callable[..., Result],
) -> None:
    """From another folder, that is, without the weights; one run has one more metric to be scored."""
    trained = tmp_path_factory.mktemp("trained")
    rows = [row for row in study["quantizers"] if row["name"] != "q2d2-hex" and row["bits"] == 6]
    (trained / "grid.yaml").write_text(yaml.safe_dump({**study, "quantizers": rows, "seeds": [0, 1]}))
    options = ("--no-figures", "--workers", "1")
    assert "4 runs: 4 finished" in in_this_process(trained, "run", "grid.yaml", *options).stderr
    fsq = {"name": "fsq", "label": "scalar", "bits": 6}
    smaller = {**study, "name": "reuse", "quantizers": [fsq], "seeds": [0, 1]}
    (tmp_path / "reuse.yaml").write_text(yaml.safe_dump(smaller))
    store = f"sqlite:///{trained}/mlflow.db"
    before = trainings(trained)

    def go(*more: str) -> str:
        asked = ("run", "reuse.yaml", "--tracking-uri", store, *options, *more)
        return in_this_process(tmp_path, *asked).stderr

    assert "2 runs: 2 reused" in go()
    assert not list((tmp_path / "runs").glob("*"))
    results = load("reuse", store)
    assert list(results.runs["label"]) == ["scalar", "scalar"]
    own = load("grid", store).runs
    assert set(results.runs["run_id"]) <= set(own["run_id"])
    assert "2 runs: 2 finished" in go("--set", "evaluate.metrics=[mel_distance, si_sdr]")
    assert trainings(trained) == before  # no new weights: they came from the store
    # Those of the two runs, and of the warm starts that they come from.
    assert len(list((tmp_path / "runs").glob("*/trained.json"))) == 4
    rescored = load("reuse", store)
    assert set(rescored.runs["eval/si_sdr_asked"]) == {2}
    for run_id in rescored.runs["run_id"]:  # what came with the weights went on with them
        assert rescored.snapshots(run_id)


def trainings(folder: Path) -> set[str]:
    """Seconds of each training, told apart by their last digit."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, "tags.`codecbench.kind` = 'run'")
    return {repr(run.data.metrics["cost/train_seconds"]) for run in runs}


class Runner:
    """`codecbench run` in a process of its own."""

    def __init__(self, folder: Path, runs: str) -> None:
        self.folder, self.runs = folder, runs
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "grid.yaml", "--runs", self.runs, "--output", f"results of {self.runs}"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def restart(self) -> None:
        self.kill()
        self.start()

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def finish(self) -> str:
        out, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == 0
        return str(out)


@contextmanager
def runner(folder: Path, runs: str) -> Iterator[Runner]:
    started = Runner(folder, runs)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.kill()


def reach(folder: Path, count: int, *runners: Runner) -> None:
    """Wait until so many trainings are over."""
    deadline = time.monotonic() + 600
    while len({path.parent.name for path in folder.glob("*runs/*/trained.json")}) < count:
        for one in runners:
            assert one.process.poll() is None, f"ended before it could be killed (seed {SEED})"
        assert time.monotonic() < deadline
        time.sleep(0.02)
