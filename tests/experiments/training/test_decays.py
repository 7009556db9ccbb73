"""Decays off a training at constant rate: each is the very training that has no other budget."""

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import data
from experiments.common import tensor_files
from experiments.common.run_folder import decayed_weights
from experiments.studies.sections import Train
from experiments.training.observer import Interrupted
from experiments.training.optimizers import schedule
from tests.experiments.training.test_train import Watcher, go, make_run

BUDGETS = "train.decay_at=[5, 8, 12]"


@pytest.fixture(scope="module")
def shards(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=16_000, cache=tmp_path_factory.mktemp("shards"))


def many(shards: data.Shards, budgets: str, *more: str) -> Any:
    steps = budgets.rstrip("]").rpartition(" ")[2].rpartition("[")[2]
    return make_run(shards, "vq", f"train.steps={steps}", budgets, "train.decay_share=0.4", *more)


def differing(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> list[str]:
    assert mine.keys() == theirs.keys()
    return [key for key in theirs if not torch.equal(mine[key], theirs[key])]


def test_the_rate_is_constant_and_falls_before_a_budget() -> None:
    config = Train(decay_at=(50, 100), warmup_steps=10, final_learning_rate=0.05)
    assert config.steps == 100
    assert config.computed_steps == 110
    trunk = [schedule(step, config) for step in range(100)]
    assert trunk[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert trunk[10:81] == [1.0] * 71
    assert trunk[90] == pytest.approx(0.525)
    decay = [schedule(step, config, 50) for step in range(50)]
    assert decay[:41] == trunk[:41]
    assert decay[45] == pytest.approx(0.525)
    assert decay[-1] == pytest.approx(0.05 + 0.95 / 10)


@pytest.mark.parametrize("average", ["train.ema_decay=0", "train.ema_decay=0.9"])
def test_each_budget_is_the_training_of_that_budget_alone(
    average: str, shards: data.Shards, tmp_path: Path
) -> None:
    codec, trained = go(many(shards, BUDGETS, average), shards, tmp_path / "many", Watcher())
    assert trained.steps == 12
    alone, _ = go(many(shards, "train.decay_at=[12]", average), shards, tmp_path / "12", Watcher())
    assert differing(codec.state_dict(), alone.state_dict()) == []
    for budget in (5, 8):
        alone, _ = go(
            many(shards, f"train.decay_at=[{budget}]", average), shards, tmp_path / str(budget), Watcher()
        )
        kept, metadata = tensor_files.read(tmp_path / "many" / decayed_weights(budget))
        assert differing(kept, alone.state_dict()) == []
        assert 0 < float(metadata["seconds"]) < 600


@pytest.mark.parametrize("stop_after", [3, 5, 7])
def test_a_training_that_is_stopped_comes_to_the_same_budgets(
    stop_after: int, shards: data.Shards, tmp_path: Path
) -> None:
    run = many(shards, BUDGETS)
    whole, _ = go(run, shards, tmp_path / "whole", Watcher())
    with pytest.raises(Interrupted):
        go(run, shards, tmp_path / "parts", Watcher(stop_after=stop_after))
    torch.manual_seed(99)
    parts, _ = go(run, shards, tmp_path / "parts", Watcher())
    assert differing(parts.state_dict(), whole.state_dict()) == []
    for budget in (5, 8):
        mine, theirs = (
            tensor_files.read(tmp_path / folder / decayed_weights(budget))[0] for folder in ("parts", "whole")
        )
        assert differing(mine, theirs) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"decay_at": [50, 40]}, "in rising order"),
        ({"decay_at": [50, 50]}, "in rising order"),
        ({"decay_at": [50, 100], "steps": 200}, "the last budget is 100, and steps is 200"),
        ({"decay_at": [20, 100], "warmup_steps": 30}, "before the warm-up ends at step 30"),
        ({"decay_at": [0, 100]}, "decay_at.0"),
        ({"decay_share": 0}, "decay_share"),
    ],
)
def test_wrong_budgets_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Train.model_validate(wrong)


def test_runs_without_budgets_keep_their_identity() -> None:
    assert not {"decay_at", "decay_share"} & Train().identity().keys()
    assert Train(decay_at=(500, 1000)).identity()["decay_at"] == [500, 1000]
