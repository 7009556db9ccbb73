"""Which GPUs a study uses, and how many runs train at the same time, told from names alone."""

from pathlib import Path

import pytest
import torch
import typer

from experiments.commands.options import chosen_device
from experiments.common import machine
from experiments.common.machine import gpus, listed_gpus
from experiments.execution.context import Context
from experiments.execution.executors.local import Local
from experiments.execution.jobs import Settings


@pytest.fixture(autouse=True)
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 16)


@pytest.mark.parametrize(
    ("visible", "device", "chosen"),
    [
        (None, "cuda", ["0", "1", "2", "3", "4", "5", "6", "7"]),
        (None, "cuda:1", ["1"]),
        ("2,3", "cuda", ["2", "3"]),
        ("2,3", "cuda:1", ["3"]),
        ("MIG-a, MIG-b", "cuda", ["MIG-a", "MIG-b"]),
        ("GPU-1234", "cuda:0", ["GPU-1234"]),
        ("", "cuda", []),
        (None, "mps", []),
        (None, "cpu", []),
    ],
)
def test_gpus_of_a_device(
    visible: str | None, device: str, chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus(device) == chosen


@pytest.mark.parametrize(
    ("device", "workers", "runs_per_device", "size", "seen"),
    [
        ("cuda", None, 1, 8, "cuda"),
        ("cuda", None, 2, 16, "cuda"),
        ("cuda:1", None, 1, 1, "cuda"),
        ("cuda:1", None, 3, 3, "cuda"),
        ("cuda:1", 2, 1, 2, "cuda"),
        ("mps", None, 1, 1, "mps"),
        ("cpu", 3, 1, 3, "cpu"),
    ],
)
def test_one_run_a_device_unless_asked_for_more(
    device: str, workers: int | None, runs_per_device: int, size: int, seen: str, tmp_path: Path
) -> None:
    settings = Settings(store_uri="", study="x", parent_id="", directory=tmp_path, device=device)
    with Local(workers, runs_per_device).open(settings) as pool:
        assert pool.size == size
        assert pool.settings.device == seen
        assert pool.settings.cores == max(1, 16 // size)
        assert set(pool.gpus) == set(gpus(device))


def test_the_plan_counts_what_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert listed_gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert listed_gpus() == 0


def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert chosen_device("cuda:7") == "cuda:7"
    with pytest.raises(typer.BadParameter, match="there is no GPU 8 here, torch finds 8"):
        chosen_device("cuda:8")
    with pytest.raises(typer.BadParameter, match="use --device cpu"):
        chosen_device("gpu")
    with pytest.raises(typer.BadParameter, match="use --device cpu"):
        chosen_device("meta")


@pytest.mark.parametrize(
    ("device", "cores", "memory", "scorers"),
    [("cpu", 8, 64, 1), ("cuda:0", 8, 64, 8), ("cuda", 8, 6, 3), ("mps", 1, 64, 1)],
)
def test_a_run_on_a_gpu_is_scored_by_the_cores_that_training_leaves_idle(
    device: str, cores: int, memory: int, scorers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: memory * 2**30)
    settings = Settings(store_uri="", study="x", parent_id="", directory=tmp_path, device=device, cores=cores)
    context = Context(job=None, settings=settings, link=None, store=None, lease=None)  # type: ignore[arg-type]
    assert context.scorers == scorers
