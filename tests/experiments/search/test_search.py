"""A real search of seconds on the tiny backbone: stopped and killed, it goes on to the same trials."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from analysis import load
from analysis.figures.search import best_frame, progress_frame
from analysis.statistics.pareto import front
from experiments.execution import executors, worker
from experiments.execution import study_runner as runner
from experiments.search import arms
from experiments.search import trials as searching
from experiments.search.arms import given_up_at
from experiments.search.space import SearchError, Space, Tiling
from experiments.studies import runs, study
from experiments.studies.runs import Run
from experiments.studies.sections import SearchSpace
from experiments.studies.study import StudyError
from experiments.tracking.schema import FINISHED, PRUNED
from experiments.tracking.store import Store
from quantizers.geometry.grids import PlanarGrid

TINY = {
    "name": "tiny-search",
    "quantizers": ["q2d2-hex"],
    "bits": 12.0,
    "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
    "train": {
        "steps": 8,
        "batch_size": 2,
        "crop_seconds": 0.2,
        "warmup_steps": 1,
        "log_every": 4,
        "validate_every": 2,
        "checkpoint_every": 4,
    },
    "evaluate": {"metrics": ["mel_distance"], "audio_examples": 0},
    "search": {
        "trials": 4,
        "batch": 3,
        "space": {"channels": [4], "lattices": ["D4"], "levels": [3, 15]},
        "pruner": {"percentile": 40, "after_trials": 2},
    },
}


class Dice:
    """Chooses at random."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self.random.uniform(low, high))

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        return str(choices[int(self.random.integers(len(choices)))])


@pytest.mark.parametrize("grid", ["hex", "rect", "rhombic"])
def test_tilings_have_every_choice_within_the_budget_and_no_other(grid: str) -> None:
    window = (0.98 * 12, 1.02 * 12)
    tiling = Tiling(grid, 2, 3, 15, 1.0, window)

    def pair(x: int, y: int) -> float | None:
        if (grid == "rhombic" and x % 2 == 0) or (grid != "rect" and y % 2 == 0) or not 0.5 <= x / y <= 2:
            return None
        bits = math.log2(PlanarGrid(grid, (x, y)).size)
        return bits if 5 <= bits <= 7 else None

    levels = range(3, 16)
    shapes = {(x, y): pair(x, y) for x in levels for y in levels if grid == "hex" or x <= y}
    shapes = {levels: bits for levels, bits in shapes.items() if bits is not None}
    wanted = {
        tuple(sorted((first, second), reverse=True))
        for (first, a), (second, b) in itertools.product(shapes.items(), repeat=2)
        if window[0] <= a + b <= window[1]
    }
    found = set()
    dice = Dice(0)
    for _ in range(40 * len(wanted)):
        (a, b, c, d), bits = tiling.choose(dice)
        assert bits == pytest.approx(sum(math.log2(PlanarGrid(grid, p).size) for p in ((a, b), (c, d))))
        found.add(((a, b), (c, d)))
    assert found <= wanted
    assert len(found) > 0.95 * len(wanted) > 3


def test_every_candidate_is_a_quantizer_within_two_percent_of_the_budget() -> None:
    space = Space(SearchSpace(lattices=("Z", "A3*", "D4", "E8"), channels=(4, 6, 8), levels=(2, 31)), 19.1)
    import quantizers

    seen = set()
    for seed in range(60):
        chosen = space.choose(Dice(seed))
        built = quantizers.create(chosen.quantizer, dim=16, **chosen.options)
        assert built.bits_per_frame == pytest.approx(chosen.bits, abs=1e-6)
        assert abs(built.bits_per_frame / 19.1 - 1) <= 0.02
        assert built.config.spread == chosen.options["spread"]
        seen.add(chosen.label.split()[0])
    assert {"hex", "rect", "rhombic", "E8"} <= seen


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"channels": (4,), "levels": (3, 4)}, r"rect x2 has no levels from 3 to 4 .*9.55 ± 1.5 bits"),
        ({"channels": (3,)}, "no tiling or lattice fits the channels"),
        ({"tilings": (), "lattices": ("D4",), "channels": (4,)}, r"2.2 bits per frame: D4 x1 spends 2.00"),
        ({"lattices": ("E9",)}, "no lattice 'E9'; known: Z, A2"),
    ],
)
def test_an_infeasible_space_says_why(space: dict[str, Any], words: str) -> None:
    with pytest.raises(SearchError, match=words):
        Space(SearchSpace(**space), 2.2 if space.get("lattices") == ("D4",) else 19.1)


def test_objectives_of_the_test_set_are_refused() -> None:
    with pytest.raises(StudyError, match=r"search.objectives: eval/pesq is not an objective"):
        study.check({**TINY, "search": {"objectives": ["eval/pesq"]}}, "mine.yaml")


def test_the_front_is_what_no_other_row_beats() -> None:
    values = np.random.default_rng(1).integers(0, 8, size=(60, 3)).astype(float)
    values[7, 1] = np.nan
    wanted = []
    for mine in values:
        beaten = np.isnan(mine).any()
        for other in values:
            beaten |= bool(all(other <= mine) and any(other < mine))
        wanted.append(not beaten)
    assert 1 < sum(wanted) < 30
    assert front(values).tolist() == wanted


def test_thresholds_give_up_at_the_first_step_above() -> None:
    assert given_up_at({2: 1.0, 4: 3.0, 6: 9.0}, {4: 2.0, 6: 2.0}) == 4
    assert given_up_at({2: 1.0, 4: 2.0}, {4: 2.0, 6: 2.0}) is None
    assert given_up_at({2: math.nan}, {2: 2.0}) == 2


class Killed(BaseException):
    """What stands for a kill: nothing of ours catches it."""


class Here:
    """Does runs in this process with the real worker; after `most` of them it is killed, or asked to stop."""

    def __init__(self, most: int, kill: bool = False) -> None:
        self.most, self.kill, self.done = most, kill, 0

    def __call__(self, todo: Sequence[Run], settings: worker.Settings, *_: Any, **__: Any) -> Any:
        outcomes = {}
        for run in todo:
            if self.done >= self.most and self.kill:
                raise Killed
            link = Alone(stop=self.done >= self.most)
            outcomes[run.hash] = worker.perform(worker.Job(run=run), settings, link)
            self.done += 1
        return outcomes


class Alone:
    """A link to no runner."""

    def __init__(self, stop: bool) -> None:
        self.stop = stop

    def tell(self, update: worker.Update) -> None:
        pass

    def stopping(self) -> bool:
        return self.stop


def nothing(*_: Any) -> None:
    pass


@pytest.mark.slow
def test_a_search_that_is_killed_and_stopped_goes_on_to_the_same_trials(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms, "STARTUP", 3)
    asked = study.check({**TINY, "data": f"manifest:{speech}"}, "tiny")
    corpus = runner.identify(asked.data.corpus, runs.sample_rate(asked), nothing)

    def sitting(folder: Path, execute: Any) -> searching.SearchOutcome:
        return searching.search(
            asked,
            corpus,
            uri=f"sqlite:///{folder}/mlflow.db",
            directory=folder / "runs",
            executor=executors.create("local", workers=1),
            announce=nothing,
            show=nothing,
            execute=execute,
        )

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        undisturbed = sitting(whole, Here(1000))
        with pytest.raises(Killed):
            sitting(parts, Here(1, kill=True))
        for most in (1, 2):  # in the first batch, and in the second
            stopped = sitting(parts, Here(most))
            assert stopped.stopped
            assert len(stopped.trials) < len(undisturbed.trials)
        again = sitting(parts, Here(1000))
        assert not again.stopped
        untouched = Here(0)
        sitting(parts, untouched)
    finally:
        torch.set_num_threads(threads)
    assert untouched.done == 0
    pd.testing.assert_frame_equal(again.trials, undisturbed.trials, check_exact=True)
    check_trials(undisturbed, f"sqlite:///{whole}/mlflow.db")


def check_trials(found: searching.SearchOutcome, uri: str) -> None:
    trials = found.trials
    assert set(trials["status"]) == {FINISHED, PRUNED}
    assert set(trials[trials["status"] == PRUNED]["sampler"]) == {"tpe"}
    assert (trials[trials["status"] == PRUNED]["steps"] < 8).all()
    assert (trials["bits"] / 12 - 1).abs().max() <= 0.02
    spent = trials.groupby("sampler")["steps"].sum()
    assert spent["random"] == 4 * 8
    assert spent["tpe"] >= 4 * 8
    assert len(trials[trials["sampler"] == "tpe"]) > 4  # pruning pays for more trials
    # Every bottleneck was trained once, and the parent knows the finished ones.
    tracked = [run.data.tags["codecbench.run_hash"] for run in Store(uri, "tiny-search").search(kind="run")]
    assert sorted(tracked) == sorted(set(trials["run_hash"]))
    finished = trials[trials["status"] == FINISHED]
    assert set(load("tiny-search", uri).runs["run_hash"]) == set(finished["run_hash"])
    best = best_frame(trials, found.objectives)
    lowest = finished["validation/loss"].min()
    assert best["validation/loss"].iloc[0] == lowest
    progress = progress_frame(trials, "validation/loss")
    assert progress.groupby("sampler")["best"].last().min() == lowest
    assert progress.groupby("sampler")["spent"].last().to_dict() == spent.to_dict()


@pytest.mark.slow
def test_the_command_prints_the_best_and_writes_both_figures(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from experiments.cli import app

    section = {"trials": 2, "batch": 2, "space": {"channels": [4], "spread": [1, 1]}, "pruner": None}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "data": f"manifest:{speech}", "search": section}))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["search", str(path), "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "found by" in done.output
    assert "random: 2 trials of 2 bottlenecks in 16 training steps over 1 seeds" in done.output
    folder = tmp_path / "results" / "tiny-search" / "search"
    assert {"best-so-far.png", "pareto.png", "trials.csv", "best.csv"} <= {p.name for p in folder.iterdir()}
    store = Store("sqlite:///mlflow.db", "tiny-search")
    (parent,) = store.search(kind="study")
    names = {entry.path for entry in store.client.list_artifacts(parent.info.run_id, "search")}
    assert "search/pareto.png" in names
