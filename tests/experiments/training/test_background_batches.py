"""A training whose batches come from a thread: the same weights, and no thread is left, however it ends."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from experiments import data
from experiments.data.corpus import DataError
from experiments.data.dataset import Crops
from experiments.training import loop
from experiments.training.observer import Interrupted
from tests.experiments.training.test_train import Watcher, go, make_run


@pytest.fixture(scope="module")
def shards(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=16_000, cache=tmp_path_factory.mktemp("shards"))


def left_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith(("batches", "shards"))]


class AtOnce:
    """Batches as they were before there was a thread: made when they are asked for."""

    def __init__(self, crops: Crops, device: torch.device) -> None:
        self.crops, self.device = crops, device

    def batch(self, step: int) -> torch.Tensor:
        return torch.from_numpy(self.crops.batch(step)).to(self.device)

    def __getattr__(self, name: str) -> object:
        return getattr(self.crops, name)


@pytest.mark.parametrize("quantizer", ["rvq", "q2d2-hex"])
def test_the_weights_are_those_of_batches_made_when_asked_for(
    quantizer: str, shards: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(shards, quantizer, "train.decay_at=[5, 8]")
    early, _ = go(run, shards, tmp_path / "early", Watcher())
    assert left_threads() == []
    monkeypatch.setattr(loop, "DeviceBatches", AtOnce)
    at_once, _ = go(run, shards, tmp_path / "at once", Watcher())
    mine, theirs = early.state_dict(), at_once.state_dict()
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []


def broken(crops: Crops, step: int, whole: Callable[[Crops, int], object] = Crops.batch) -> object:
    if step == 4:
        raise DataError("cannot read shard 7: Input/output error")
    return whole(crops, step)


def test_an_error_of_the_thread_ends_the_training_with_its_words(
    shards: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Crops, "batch", broken)
    watcher = Watcher()
    with pytest.raises(DataError, match="cannot read shard 7"):
        go(make_run(shards, "none"), shards, tmp_path, watcher)
    assert watcher.steps == 4  # all steps before the batch that could not be read
    assert left_threads() == []


def test_a_stopped_training_leaves_no_thread(shards: data.Shards, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        go(make_run(shards, "none"), shards, tmp_path, Watcher(stop_after=3))
    assert left_threads() == []


def test_ctrl_c_leaves_no_thread(shards: data.Shards, tmp_path: Path) -> None:
    class Pressed(Watcher):
        def progress(self, step: int, steps: int, text: str) -> None:
            if step == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(make_run(shards, "none"), shards, tmp_path, Pressed())
    assert left_threads() == []
