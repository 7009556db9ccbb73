"""Outcomes of steps that are read a step late, as on a GPU: the same weights, and the same is told."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import data
from experiments.common import tensor_files
from experiments.data.dataset import Crops
from experiments.training import loop
from experiments.training.observer import Diverged, Interrupted
from experiments.training.outcomes import Outcomes
from tests.experiments.training.test_adversarial_training import Watcher, build, go

RECIPE = {
    "steps": 5,
    "objective": {
        "name": "vocos",
        "options": {"discriminator_width": 0.03, "multi_period": 0.0, "multi_period_features": 0.0},
    },
    "ema_decay": 0.9,
    "optimizer": "muon",
    "validate_every": 3,
    "non_finite_limit": 2,
}


@pytest.fixture(scope="module")
def shards(speech: Path) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=24_000)


def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Outcomes", partial(Outcomes, delay=1))


def broken_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the batches of `steps` not finite."""
    batch = Crops.batch
    factor = {step: np.float32(np.nan) for step in steps}
    monkeypatch.setattr(
        Crops, "batch", lambda crops, step: batch(crops, step) * factor.get(step, np.float32(1))
    )


def told(watcher: Watcher) -> list[str]:
    """All metrics but speeds, as text: NaN equals nothing."""
    logged = [(step, *pair) for step, values in watcher.logged.items() for pair in values.items()]
    return sorted(map(repr, (each for each in logged if "second" not in each[1])))


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_late_outcomes_change_nothing(
    quantizer: str, shards: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at(monkeypatch, 1, 3)
    at_once, now = build(quantizer), Watcher()
    first = go(at_once, shards, tmp_path / "now", now, **RECIPE)
    late(monkeypatch)
    later, then = build(quantizer), Watcher()
    second = go(later, shards, tmp_path / "late", then, **RECIPE)
    assert first.skipped == second.skipped == 2
    assert now.warnings == then.warnings
    assert sorted(name for _, name, _ in now.warnings).count("skipped_batch") == 2
    assert told(now) == told(then)
    mine, theirs = later.state_dict(), at_once.state_dict()
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []


def test_a_saved_state_knows_the_outcome_of_its_last_step(
    shards: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at(monkeypatch, 2)
    files = {}
    for name in ("now", "late"):
        with pytest.raises(Interrupted):
            go(build("vq"), shards, tmp_path / name, Watcher(stop_after=3), **RECIPE)
        files[name] = tensor_files.read(tmp_path / name / "state.safetensors")
        late(monkeypatch)
    (now, described), (then, described_late) = files["now"], files["late"]
    assert [name for name in now if not torch.equal(now[name], then[name])] == []
    assert '"skipped_in_a_row": 1' in described_late["progress"]
    assert '"skipped": 1' in described["progress"]


@pytest.mark.parametrize("delay", [0, 1])
def test_a_training_that_diverges_ends(
    delay: int, shards: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_at(monkeypatch, 1, 2)
    if delay:
        late(monkeypatch)
    watcher = Watcher()
    with pytest.raises(Diverged, match="2 steps in a row up to step 2"):
        go(build("fsq"), shards, tmp_path, watcher, **{**RECIPE, "validate_every": 100})
    assert watcher.step == 2 + delay
