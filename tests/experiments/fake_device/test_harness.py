"""The fake device refuses what CUDA refuses, and sees what makes the host wait: faults planted in a module
are found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codec.model import Codec
from experiments import data
from tests.experiments.fake_device.fake_cuda import CUDA, WrongDevice, fake_cuda
from tests.experiments.fake_device.running import DIM, SEANET, Watcher, build, go


class Faulty(nn.Module):
    """An encoder with a fault after it."""

    def __init__(self, encoder: nn.Module, fault: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.fault = encoder, fault

    def forward(self, audio: Tensor) -> Tensor:
        return self.fault(self.encoder(audio))


HERE = "tests/experiments/fake_device/test_harness.py"
CONSTANT = torch.ones(DIM)  # no buffer, so it stays on the CPU when the module moves

CRASHES: dict[str, tuple[Callable[[Tensor], Tensor], type[Exception]]] = {
    "a constant on the CPU": (lambda x: x * CONSTANT, WrongDevice),
    "a new tensor without a device": (lambda x: x + torch.zeros(x.shape), WrongDevice),
    "places on the CPU": (lambda x: x.gather(1, torch.zeros(x.shape, dtype=torch.int64)), WrongDevice),
    "scalars of both devices stacked": (
        lambda x: x + torch.stack([x.mean(), torch.tensor(1.0)]).sum(),
        WrongDevice,
    ),
    "scalars of both devices joined": (
        lambda x: x + torch.cat([x.mean()[None], torch.tensor([1.0])]).sum(),
        WrongDevice,
    ),
    "a weight on the CPU": (lambda x: x.lerp(x, torch.tensor(0.5)), WrongDevice),
    "numpy of a tensor": (lambda x: x + float(x.detach().numpy().mean()), TypeError),
    "numpy by numpy": (lambda x: x + float(np.asarray(x.detach()).mean()), TypeError),
    "a random generator of the CPU": (
        lambda x: x + torch.randn(x.shape, generator=torch.Generator(), device=x.device),
        WrongDevice,
    ),
}
WAITS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a question": (lambda x: x if x.sum() > 0 else -x, "read"),
    "a number": (lambda x: x / x.detach().max().item(), "read"),
    "a list": (lambda x: x + x.detach()[0, 0].tolist()[0], "read"),
    "a comparison": (lambda x: x if torch.equal(x, x) else -x, "read"),
    "a copy to the host": (lambda x: x + x.detach().cpu().mean().item(), "to host"),
    "a copy to the device": (lambda x: x * torch.ones(DIM).to(x.device), "to device"),
    "a tensor of numbers": (lambda x: x * torch.tensor([1.0] * DIM, device=x.device), "to device"),
    "places that the host counts": (lambda x: x + x.detach().nonzero().shape[0], "shape"),
    "a mask": (lambda x: x + x.detach()[x > 0].mean(), "shape"),
}


def faulty(fault: Callable[[Tensor], Tensor]) -> Codec:
    codec = build()
    codec.encoder = Faulty(codec.encoder, fault)
    return codec


def features() -> Tensor:
    return torch.ones(2, 5, DIM, device="cuda", requires_grad=True)


@pytest.mark.parametrize("name", CRASHES)
def test_what_cuda_refuses_is_refused(name: str) -> None:
    fault, error = CRASHES[name]
    with fake_cuda(), pytest.raises(error):
        fault(features()).sum().backward()


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_is_counted_with_its_place(name: str) -> None:
    fault, kind = WAITS[name]
    with fake_cuda() as device:
        fault(features()).sum().backward()
    assert device.waits() == {f"{kind}: {HERE} <lambda>": 1}


def test_planted_faults_are_found_in_a_training(shards: data.Shards, tmp_path: Path) -> None:
    with fake_cuda(), pytest.raises(WrongDevice, match=HERE):
        go(faulty(CRASHES["a constant on the CPU"][0]), shards, tmp_path, steps=1)
    with fake_cuda(), pytest.raises(TypeError, match=HERE):
        go(faulty(CRASHES["numpy of a tensor"][0]), shards, tmp_path, steps=1)
    with fake_cuda() as device:
        watcher = Watcher(device=device)
        go(faulty(WAITS["a number"][0]), shards, tmp_path, watcher, steps=3)
    assert watcher.waits == {f"read: {HERE} <lambda>": 1}


def test_a_recurrent_layer_under_autocast_is_refused(shards_24k: data.Shards, tmp_path: Path) -> None:
    """cuDNN would compute it in fp16, without a scale of the loss."""
    codec = build(backbone=SEANET)
    recurrent = next(module for module in codec.modules() if isinstance(module, nn.LSTM))
    codec.encoder = Faulty(
        codec.encoder, lambda x: recurrent(x.new_zeros(1, 1, recurrent.input_size))[0].sum() + x
    )
    with fake_cuda(), pytest.raises(AssertionError, match="recurrent layer under autocast"):
        go(codec, shards_24k, tmp_path, steps=1)


def test_autocast_is_cudas() -> None:
    with fake_cuda():
        x = torch.ones(2, 3, 8, device="cuda")
        layer = nn.Conv1d(3, 3, 3).to("cuda")
        with torch.autocast("cuda", torch.bfloat16):
            half = layer(x)
            assert (half.dtype, (x @ x.mT).dtype) == (torch.bfloat16, torch.bfloat16)
            assert half.exp().dtype == half.sum().dtype == torch.float32
            assert torch.stack([half, half]).dtype == torch.bfloat16
            assert torch.cat([half, layer(x).float()]).dtype == torch.float32
        assert layer(x).dtype == torch.float32
        half.sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.dtype == torch.float32


def test_a_pinned_copy_waits_for_nothing() -> None:
    with fake_cuda() as device:
        torch.ones(3).pin_memory().to(CUDA, non_blocking=True)
        torch.ones(3, device="cuda").to("cpu", non_blocking=True)
        assert [contact.waits for contact in device.contacts] == [False, False]
        torch.ones(3).to(CUDA, non_blocking=True)  # not pinned
        torch.ones(3).pin_memory().to(CUDA)
        assert [contact.waits for contact in device.contacts[2:]] == [True, True]


def test_host_tensors_are_real_and_the_device_goes_away() -> None:
    with fake_cuda():
        assert torch.arange(3).sum().item() == 3
        assert torch.zeros(2, device="cuda", dtype=torch.int64).cpu().tolist() == [0, 0]
    assert not torch.cuda.is_available() or torch.cuda.device_count() != 0
