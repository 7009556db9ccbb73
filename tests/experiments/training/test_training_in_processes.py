"""Trainings that are killed, and trainings of two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import quantizers

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("training_worker.py")


def start(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_at_random_moments_lose_little_and_change_nothing(speech: Path, tmp_path: Path) -> None:
    found = json.loads(start(str(WORKER), "kills", str(speech), str(tmp_path)))
    assert found["differing"] == []
    reached, sittings = 0, 0
    for line in found["told"]:
        what, step = line.split()
        if what == "restored":
            sittings += 1
            assert reached - int(step) <= found["interval"]
        reached = int(step)
    assert reached == 40
    assert sittings > 4


@pytest.fixture(scope="module")
def trained(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two learned from the same global batches."""
    folder = tmp_path_factory.mktemp("ddp")
    start(str(WORKER), "ddp", str(speech), str(folder), "fsq")
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    told = start(*torchrun, str(WORKER), "ddp", str(speech), str(folder), "fsq,vq")
    assert "batch_size 3 cannot be divided among 2 processes" in told
    # What the first process does alone, such as scoring, may take far longer than torch's half an hour.
    assert told.count("patience 7 days, 0:00:00") == 2
    return folder


def load(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=True))


@pytest.mark.parametrize("quantizer", ["fsq", "vq"])
def test_two_processes_hold_the_same_weights(quantizer: str, trained: Path) -> None:
    first, second = (load(trained / quantizer / "of_2" / f"{rank}.pt") for rank in (0, 1))
    assert [k for k, v in first["codec"].items() if not torch.equal(v, second["codec"][k])] == []
    assert first["logged"][3]["train/loss"] == second["logged"][3]["train/loss"]


def test_two_processes_learn_what_one_does_from_the_doubled_batch(trained: Path) -> None:
    alone, both = (load(trained / "fsq" / f"of_{n}" / "0.pt") for n in (1, 2))
    for step, values in alone["logged"].items():
        for name, value in values.items():
            if "per_second" not in name:
                assert both["logged"][step][name] == pytest.approx(value, rel=2e-3, abs=1e-5), (step, name)
    assert "train/discriminator/dac" in alone["logged"][3]
    for name, weight in alone["codec"].items():
        torch.testing.assert_close(both["codec"][name], weight, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.long
def test_a_part_that_thaws_learns_from_all_processes(speech: Path, tmp_path: Path) -> None:
    start(str(WORKER), "thaw", str(speech), str(tmp_path))
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    start(*torchrun, str(WORKER), "thaw", str(speech), str(tmp_path))
    for steps in (2, 4):
        alone = load(tmp_path / f"of_1_{steps}" / "0.pt")
        first, second = (load(tmp_path / f"of_2_{steps}" / f"{rank}.pt")["trained"] for rank in (0, 1))
        for name, weight in first.items():
            assert torch.equal(weight, second[name]), name
            torch.testing.assert_close(weight, alone["trained"][name], rtol=1e-3, atol=1e-3, msg=name)
        moved = {
            part: any(
                not torch.equal(weight, alone["begun"][name])
                for name, weight in first.items()
                if name.startswith(part)
            )
            for part in ("encoder", "decoder")
        }
        assert moved == {"encoder": steps > 2, "decoder": True}


@pytest.mark.long
def test_every_quantizer_trains_in_two_processes_with_snapshots(speech: Path, tmp_path: Path) -> None:
    """The first process alone validates and takes snapshots: none of that may wait for the other one."""
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    told = start(*torchrun, str(WORKER), "snapshots", str(speech), str(tmp_path))
    digests: dict[str, set[str]] = {}
    for line in told.splitlines():
        _, _, name, steps, digest = line.split()
        digests.setdefault(name, set()).add(digest)
        assert int(steps) == (2 if name == "none" else 4)
    assert digests.keys() == set(quantizers.available())
    assert all(len(found) == 1 for found in digests.values()), "the processes hold other weights"
    kept = {path.parent for path in tmp_path.glob("*/snapshots.npz")}
    assert 0 < len(kept) < len(digests)  # fixed codes have coordinates, learned ones none


@pytest.mark.long
def test_the_others_wait_for_what_the_first_process_does_alone(tmp_path: Path) -> None:
    """The constant is what they wait for: with two seconds the same work ends the job."""
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", str(WORKER), "waits")
    told = start(*torchrun, "120", str(tmp_path))
    assert sorted(told.split("\n")[:2]) == ["rank 0 heard 0", "rank 1 heard 0"]
    with pytest.raises(AssertionError, match=r"[Tt]imed out|wait timeout"):
        start(*torchrun, "2", str(tmp_path))
