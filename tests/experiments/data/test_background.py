"""Batches from a thread: the same as without it, with the position of what was taken."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.data.background import AHEAD, BackgroundBatches
from experiments.data.corpus import DataError
from experiments.data.signal import Float32
from tests.experiments.data.test_tar_shards import shard, streamed


class Counted:
    """Crops that remember which batches were made, and by which thread. broken: a step that cannot be."""

    def __init__(self, broken: int | None = None) -> None:
        self.made: list[int] = []
        self.threads: set[str] = set()
        self.broken, self.at, self.closed = broken, 0, False

    def batch(self, step: int) -> Float32:
        if step == self.broken:
            raise DataError("the disk says no")
        self.made.append(step)
        self.threads.add(threading.current_thread().name)
        self.at = step + 1
        return np.full((1, 2), step, np.float32)

    def describe(self, step: int) -> str:
        return f"clip {step}"

    def cursor(self) -> dict[str, Any]:
        return {"step": self.at}

    def seek(self, cursor: Mapping[str, Any]) -> None:
        self.at = int(cursor.get("step", 0))

    def close(self) -> None:
        self.closed = True


def numbers(batch: Float32) -> int:
    return int(batch[0, 0])


def wait_until(made: list[int], count: int) -> None:
    until = time.monotonic() + 20
    while len(made) < count:
        assert time.monotonic() < until
        time.sleep(0.001)


def ours() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "batches"]


def test_batches_are_made_early_by_one_thread_and_no_more_than_asked_for() -> None:
    crops = Counted()
    batches = BackgroundBatches(crops, numbers)
    assert batches.cursor() == {"step": 0}
    for step in range(4):
        assert batches.batch(step) == step
        assert batches.cursor() == {"step": step + 1}
    wait_until(crops.made, 4 + AHEAD)
    time.sleep(0.05)
    assert crops.made == list(range(4 + AHEAD))
    assert crops.threads == {"batches"}
    assert batches.describe(3) == "clip 3"
    assert len(ours()) == 1
    batches.close()
    assert ours() == []
    assert crops.closed


def test_a_step_out_of_order_and_another_position_drop_what_was_made() -> None:
    crops = Counted()
    batches = BackgroundBatches(crops, numbers)
    assert [batches.batch(step) for step in (5, 6, 2, 3)] == [5, 6, 2, 3]
    batches.seek({"step": 9})
    assert batches.cursor() == {"step": 9}
    assert ours() == []
    assert [batches.batch(step) for step in (9, 10)] == [9, 10]
    batches.close()


def test_an_error_comes_at_its_own_step_with_its_own_words() -> None:
    crops = Counted(broken=2)
    batches = BackgroundBatches(crops, numbers)
    assert batches.batch(0) == 0
    wait_until(crops.made, 2)
    assert batches.batch(1) == 1
    for _ in range(2):  # asked again, it does not wait for a thread that has ended
        with pytest.raises(DataError, match="the disk says no"):
            batches.batch(2)
    assert batches.cursor() == {"step": 2}
    crops.broken = None
    batches.seek({"step": 2})
    assert batches.batch(2) == 2
    batches.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    for number in range(5):
        shard(root / f"train-{number:03}.tar", 100 * number, clips=3)
    for name, start in (("dev/dev-000.tar", 1_000), ("test-000.tar", 2_000)):
        shard(root / name, start, clips=2)
    return root


def test_a_stream_goes_on_at_the_batch_that_was_taken(folder: Path) -> None:
    plain = streamed(folder)
    wanted, cursors = [], []
    for step in range(12):
        wanted.append(plain.batch(step))
        cursors.append(plain.cursor())
    plain.close()
    batches = BackgroundBatches(streamed(folder), lambda batch: batch)
    for step in range(6):
        assert np.array_equal(batches.batch(step), wanted[step])
        assert batches.cursor() == cursors[step]
    assert batches.describe(4) != "of step 4"
    saved = batches.cursor()
    batches.seek(cursors[2])  # as after a decay
    assert np.array_equal(batches.batch(3), wanted[3])
    batches.close()
    resumed = BackgroundBatches(streamed(folder), lambda batch: batch)
    resumed.seek(saved)
    assert [np.array_equal(resumed.batch(step), wanted[step]) for step in range(6, 12)] == [True] * 6
    resumed.close()
    assert not [each for each in threading.enumerate() if each.name.startswith(("batches", "shards"))]


def test_closing_does_not_wait_for_whole_blocks(folder: Path) -> None:
    """A block is 64 crops, here of 16 clips; when nobody wants it, it is not read to its end."""
    crops = streamed(folder)
    cut_clips: list[int] = []
    for lane in crops.lanes.values():
        lane._cut = _slowly(lane._cut, cut_clips)  # type: ignore[method-assign]
    batches = BackgroundBatches(crops, lambda batch: batch)
    batches._start(0)
    wait_until(cut_clips, 1)
    batches.close()
    assert len(cut_clips) <= 1 + len(crops.lanes)
    assert not [each for each in threading.enumerate() if each.name.startswith(("batches", "shards"))]


def _slowly(cut: Callable[..., Any], counted: list[int]) -> Callable[..., Any]:
    def slow(*arguments: Any) -> Any:
        counted.append(1)
        time.sleep(0.2)
        return cut(*arguments)

    return slow
