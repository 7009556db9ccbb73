"""Learned codebooks: they learn, come back from a collapse, and stay the same on all ranks."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import quantizers
from quantizers.parts.codebook import EMACodebooks, EMAConfig
from quantizers.parts.kmeans import argmax


@pytest.mark.parametrize("size", [7, 256, 300, 1000, 1024])
def test_argmax_is_the_first_of_the_greatest(size: int) -> None:
    torch.manual_seed(0)
    scores = torch.randint(40, (3, 500, size)).float()  # ties in every row
    assert torch.equal(argmax(scores), torch.from_numpy(scores.numpy().argmax(-1)))
    scores[1, 3, size // 2] = torch.nan  # shows up as the greatest, wherever it is
    assert argmax(scores)[1, 3] == size // 2


@pytest.mark.parametrize("size", [50, 777])
def test_nearest_code_against_brute_force(size: int) -> None:
    torch.manual_seed(0)
    books = EMACodebooks(3, 4, EMAConfig(codebook_size=size, decay=0.9, revive_below=0.1))
    vectors = torch.randn(3, 700, 4)
    assert torch.equal(books.nearest(vectors), torch.cdist(vectors, books.codes).argmin(-1))


def test_moving_average_in_closed_form() -> None:
    books = EMACodebooks(1, 1, EMAConfig(codebook_size=2, decay=0.9, revive_below=0.0))
    books.start(torch.tensor([[[0.0], [10.0]]]))
    assert sorted(books.codes.flatten().tolist()) == [0.0, 10.0]
    near_zero = int(books.codes[0, 1, 0] < 5)
    books.update(torch.tensor([[[1.0], [3.0]]]), torch.full((1, 2), near_zero))
    # Count 0.9 * 1 + 0.1 * 2, sum 0.9 * 0 + 0.1 * 4.
    assert torch.isclose(books.codes[0, near_zero, 0], torch.tensor(0.4 / 1.1))
    assert books.codes[0, 1 - near_zero, 0] == 10.0


def test_kmeans_finds_clusters() -> None:
    torch.manual_seed(0)
    centres = 10 * torch.randn(16, 8)
    points = centres[torch.arange(3200) % 16] + 0.1 * torch.randn(3200, 8)
    quantizer = quantizers.create("vq", dim=8, codebook_size=96)
    error = torch.tensor(0.0)
    for _ in range(300):
        out = quantizer(points.unsqueeze(0))
        error = (out.features - points).square().mean()
    assert error < 0.02


def test_first_batch_smaller_than_the_codebook() -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create("vq", dim=4, codebook_size=64)
    quantizer(torch.randn(1, 10, 4))
    codes = quantizer.codebooks.codes[0]
    assert torch.isfinite(codes).all()
    assert len(codes.unique(dim=0)) == 64


def test_codes_do_not_turn_to_nan_when_idle() -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create("vq", dim=4, codebook_size=16, revive_below=0.0)
    quantizer(torch.randn(1, 100, 4))
    point = torch.randn(1, 1, 4)
    for _ in range(3000):
        quantizer(point)
    assert torch.isfinite(quantizer.codebooks.codes).all()


def test_without_revival_a_collapse_stays() -> None:
    def used(revive_below: float) -> int:
        torch.manual_seed(0)
        quantizer = quantizers.create("vq", dim=4, codebook_size=64, revive_below=revive_below)
        quantizer(torch.zeros(1, 100, 4) + 5)
        return len(torch.cat([quantizer(torch.randn(1, 100, 4)).codes for _ in range(300)][-20:]).unique())

    assert used(0.1) > 55
    assert used(0.0) < 30


@pytest.mark.long  # a training of two processes has codebooks, too
def test_two_processes_keep_the_same_codebooks() -> None:
    names = [name for name in quantizers.available() if quantizers.entry(name).cls.learned] + ["lfq", "fsq"]
    names += ["vq/gradient=diveq", "rvq/gradient=sf-diveq", "residual-fsq/conditioning=layernorm"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = Path(__file__).with_name("distributed_worker.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(worker), str(rank), str(port), *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=400) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], outputs
    for out, _ in outputs:
        *told, number = out.split()
        assert told == [*(f"{name}:same" for name in names for _ in range(2)), "start:0,10", "followed:5,5"]
        assert 25 < int(number.removeprefix("revived:")) < 75  # about half: the vectors of both ranks
