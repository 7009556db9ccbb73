"""Checks of the conformance suite on what a start from data must keep."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from quantizers.checks.assertions import DIM, Build, refused, same, within
from quantizers.checks.start_table import gauss_markov, signal_to_noise
from quantizers.contract import Quantizer


def start(build: Build) -> None:
    """A start is decided by its features alone, leaves the global generator and the mode as they are, and is
    better than none on a correlated Gaussian source, in signal-to-noise ratio; decoding stays exact."""
    torch.manual_seed(0)
    quantizer = build()
    other = copy.deepcopy(quantizer)
    fresh = _correlated(2000, seed=2)
    parameters = list(map(id, quantizer.parameters()))
    before = signal_to_noise(quantizer, fresh)
    generator = torch.get_rng_state()
    quantizer.start(_correlated(2000, seed=1))
    assert torch.equal(generator, torch.get_rng_state()), "start draws from the global generator"
    assert quantizer.training, "start left training mode"
    assert parameters == list(map(id, quantizer.parameters())), "start replaces parameters"
    assert all(value.requires_grad for value in quantizer.parameters()), "start froze parameters"
    torch.rand(3)
    other.start(_correlated(2000, seed=1))
    same(quantizer.state_dict(), other.state_dict(), "a second start from the same features gives another")
    after = signal_to_noise(quantizer, fresh)
    assert after >= before - 1e-6, f"{after:.2f} dB after the start, {before:.2f} dB before"
    _usable(quantizer, _correlated(100, seed=2), "correlated frames")


def start_can_be_trained(build: Build) -> None:
    """The first steps of training do not undo a start: ten of Adam at a rate of 0.003 cost at most 5 dB, and
    leave 5 dB where the start is at more than 10 dB.

    A map with gains of 100 and more, as least squares give to inputs that hardly vary, passes every other
    check. Its start is good, and a step later its output is 100 times too large. The frames are correlated,
    of low rank, or have deviations that fall by a factor of 1e4; their mean square is 1.
    """
    generator = torch.Generator().manual_seed(4)
    steep = torch.logspace(0, -4, DIM)
    mixed = torch.randn(5, DIM, generator=generator)
    kinds: dict[str, Callable[[int], Tensor]] = {
        "correlated": lambda seed: _correlated(2000, seed),
        "low rank": lambda seed: _correlated(2000, seed)[:, :5] @ mixed / mixed.square().sum(0).mean().sqrt(),
        "steep": lambda seed: _correlated(2000, seed) * steep / steep.square().mean().sqrt(),
    }
    for kind, frames in kinds.items():
        torch.manual_seed(0)
        quantizer = build()
        quantizer.start(frames(1))
        fresh, parameters = frames(2), list(quantizer.parameters())
        before = signal_to_noise(quantizer, fresh)
        if not parameters or before <= 0:
            continue
        optimizer = torch.optim.Adam(parameters, lr=0.003)
        for step in range(10):
            batch = frames(10 + step)[:500].unsqueeze(0)
            out = quantizer(batch)
            optimizer.zero_grad()
            ((out.features - batch).square().mean() + out.loss).backward()
            optimizer.step()
        after = signal_to_noise(quantizer, fresh)
        assert after > min(before, 10.0) - 5, (
            f"{kind} frames: {before:.2f} dB after the start, {after:.2f} dB after ten steps of training"
        )


def start_anywhere(build: Build) -> None:
    """A start survives constant channels, features of low rank, few frames, one frame, and any scale."""
    generator = torch.Generator().manual_seed(3)
    plain = torch.randn(300, DIM, generator=generator)
    half = torch.where(torch.arange(DIM) % 2 == 0, plain, 0.7)
    frames = {
        "constant channels": half,
        "rank 2": plain[:, :2] @ torch.randn(2, DIM, generator=generator),
        "rank 1 far from the origin": 1e3 + plain[:, :1].expand(-1, DIM),
        "equal frames": torch.ones(50, DIM) * 0.3,
        "zeros": torch.zeros(50, DIM),
        "three frames": plain[:3],
        "one frame": plain[:1],
        "huge values": 1e6 * plain,
        "tiny values": 1e-12 * plain,
    }
    for name, features in frames.items():
        quantizer = build()
        quantizer.start(features)
        _usable(quantizer, features, name)


def start_refuses(build: Build) -> None:
    """A start from no frames, from frames of another shape or from values that are not finite is refused."""
    wrong = _correlated(20, seed=1)
    wrong[3, 4] = torch.nan
    endless = torch.where(torch.isnan(wrong), torch.inf, wrong)
    for bad in (torch.zeros(0, DIM), torch.zeros(5, DIM + 1), torch.zeros(1, 5, DIM), wrong, endless):
        quantizer = build()
        before = copy.deepcopy(quantizer.state_dict())
        refused(quantizer.start, bad, f"a start from {list(bad.shape)} frames is accepted")
        same(before, quantizer.state_dict(), "a refused start changed")


def _correlated(frames: int, seed: int) -> Tensor:
    """Frames [frames, DIM] of a Gaussian source, neighbouring values correlated at 0.9."""
    return gauss_markov(frames, DIM, 0.9, seed)


def _usable(quantizer: Quantizer, frames: Tensor, what: str) -> None:
    """Forward, decoding and a training step on `frames` [frames, dim] work."""
    features = frames.unsqueeze(0)
    out = quantizer.eval()(features)
    assert torch.isfinite(out.features).all(), f"{what}: features are not finite"
    within(out.codes, quantizer.codebook_sizes, f"{what}: codes")
    if quantizer.streams:
        assert torch.equal(quantizer.decode(out.codes), out.features), f"{what}: decoding is not exact"
    if len(frames) < 2:
        return
    trained = quantizer.train()(features.requires_grad_())
    assert torch.isfinite(trained.features).all(), f"{what}: features in training are not finite"
    (trained.features.sum() + trained.loss).backward()
    for name, parameter in quantizer.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), f"{what}: the gradient of {name} is not finite"
    assert all(torch.isfinite(value).all() for value in quantizer.state_dict().values()), f"{what}: state"
