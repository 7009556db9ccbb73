"""DiVeQ and SF-DiVeQ (arXiv 2509.26469) against their formulas."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import quantizers
from quantizers import QuantizerError
from quantizers.checks.start_table import gauss_markov, signal_to_noise
from quantizers.parts.code_order import as_path
from quantizers.parts.vector_gradients import DEVIATION, between, directed


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slope(function: Callable[[Tensor], Tensor], at: Tensor, along: Tensor) -> Tensor:
    """The derivative of `function` along a direction, by central differences."""
    step = 1e-6
    return (function(at + step * along) - function(at - step * along)) / (2 * step)


def test_the_error_is_as_long_as_that_of_the_code_and_near_it() -> None:
    torch.manual_seed(0)
    vectors, codes = draw(4000, 8, seed=1), draw(4000, 8, seed=2)
    error = directed(vectors, codes)
    torch.testing.assert_close(error.norm(dim=-1), (codes - vectors).norm(dim=-1))
    # Across the error of length r the noise has a deviation of s / r in each of d - 1 directions.
    turned = ((error - (codes - vectors)).square().sum(-1)).mean().item()
    assert turned == pytest.approx(7 * DEVIATION**2, rel=0.05)


def test_the_gradient_is_that_of_the_length_of_the_error() -> None:
    """For a direction u held constant: dq/dz = I - u e^T and dq/dc = u e^T, e the direction of c - z."""
    vectors, codes = draw(50, 6, seed=1).requires_grad_(), draw(50, 6, seed=2).requires_grad_()
    along, weight = draw(50, 6, seed=3), draw(50, 6, seed=4)
    torch.manual_seed(5)
    quantized = vectors + directed(vectors, codes)
    unit = ((quantized - vectors) / (codes - vectors).norm(dim=-1, keepdim=True)).detach()
    found = torch.autograd.grad((quantized * weight).sum(), (vectors, codes))

    def value(z: Tensor, c: Tensor) -> Tensor:
        return ((z + (c - z).norm(dim=-1, keepdim=True) * unit) * weight).sum(-1)

    z, c = vectors.detach(), codes.detach()
    by_differences = slope(lambda z: value(z, c), z, along), slope(lambda c: value(z, c), c, along)
    for gradient, expected in zip(found, by_differences, strict=True):
        torch.testing.assert_close((gradient * along).sum(-1), expected, rtol=1e-6, atol=1e-7)
    direction = (c - z) / (c - z).norm(dim=-1, keepdim=True)
    shared = direction * (unit * weight).sum(-1, keepdim=True)
    torch.testing.assert_close(found[0], weight - shared)
    torch.testing.assert_close(found[1], shared)


def test_between_is_on_the_segment_and_moves_both_ends() -> None:
    torch.manual_seed(0)
    vectors, share = draw(50, 6, seed=1).requires_grad_(), torch.rand(50, 1, dtype=torch.float64)
    first, second = draw(50, 6, seed=2).requires_grad_(), draw(50, 6, seed=3).requires_grad_()
    point = between(vectors, first, second, share)
    torch.testing.assert_close(point, torch.lerp(first, second, share), atol=10 * DEVIATION, rtol=0)
    weight = draw(50, 6, seed=4)
    gradients = torch.autograd.grad((point * weight).sum(), (vectors, first, second))
    torch.testing.assert_close(sum(gradients), weight)  # moving all together moves the point as much
    ends = [(end - vectors).detach() for end in (first, second)]
    for end, part, gradient in zip(ends, (1 - share, share), gradients[1:], strict=True):
        direction = end / end.norm(dim=-1, keepdim=True)
        along = part * direction * (direction * weight).sum(-1, keepdim=True)
        torch.testing.assert_close(gradient, along, atol=0.05, rtol=0)  # the noise turns it a little


def test_an_error_of_nothing_has_a_finite_gradient() -> None:
    vectors = torch.ones(3, 4, requires_grad=True)
    error = directed(vectors, torch.ones(3, 4))
    assert error.abs().max() < 1e-15
    (gradient,) = torch.autograd.grad(error.sum(), vectors)
    assert torch.isfinite(gradient).all()


def test_codes_in_a_row_are_near_each_other() -> None:
    circle = torch.linspace(0, 6.2, 63)[torch.randperm(63, generator=torch.Generator().manual_seed(0))]
    codes = torch.stack((torch.stack((circle.cos(), circle.sin()), -1), draw(63, 2).float()))
    ordered = as_path(codes)
    for before, after in zip(codes, ordered, strict=True):
        assert sorted(map(tuple, before.tolist())) == sorted(map(tuple, after.tolist()))
    steps = ordered.diff(dim=1).norm(dim=-1)
    assert steps[0].sum() < 1.1 * 6.2 + 2  # round the circle, but for a jump
    assert steps[1].mean() < 0.4 * codes[1].diff(dim=0).norm(dim=-1).mean()


@pytest.mark.parametrize("gradient", ["diveq", "sf-diveq"])
@pytest.mark.parametrize("name", ["vq", "rvq"])
def test_training_moves_the_codes_by_the_loss_of_the_reconstruction_alone(name: str, gradient: str) -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create(name, dim=8, codebook_size=32, gradient=gradient, revive_below=0.0)
    features = gauss_markov(500, 8, 0.9, seed=1)
    torch.nn.init.normal_(quantizer.get_parameter(first_codes(name)), std=0.3)
    for module in quantizer.modules():
        if hasattr(module, "started"):
            module.started.fill_(True)  # no k-means
    before = signal_to_noise(quantizer, features)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    for _ in range(100):
        out = quantizer.train()(features.unsqueeze(0))
        assert out.loss.item() == 0
        optimizer.zero_grad()
        (out.features - features).square().mean().backward()
        optimizer.step()
    assert signal_to_noise(quantizer, features) > before + 3


def first_codes(name: str) -> str:
    return "codebooks.codes" if name == "vq" else "codebooks.0.codes"


@pytest.mark.parametrize("gradient", ["diveq", "sf-diveq"])
def test_codes_alone_are_used_in_eval_mode(gradient: str) -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create("vq", dim=8, codebook_size=16, gradient=gradient)
    features = torch.randn(1, 500, 8)
    quantizer.start(features[0])
    out = quantizer.eval()(features)
    assert torch.equal(out.features[0], quantizer.codebooks.codes[0, out.codes[0, :, 0]])
    assert quantizer.learned_values == 16 * 8  # parameters, counted once


def test_a_start_is_that_of_k_means_in_another_order() -> None:
    features = gauss_markov(3000, 8, 0.9, seed=1)
    books = []
    for gradient in ("unit", "diveq", "sf-diveq"):
        quantizer = quantizers.create("vq", dim=8, codebook_size=16, gradient=gradient)
        quantizer.start(features)
        books.append(quantizer.codebooks.codes[0].detach())
    assert torch.equal(books[0], books[1])
    assert not torch.equal(books[0], books[2])
    assert torch.equal(books[0].sort(0).values, books[2].sort(0).values)


def test_what_has_no_effect_is_refused() -> None:
    with pytest.raises(QuantizerError, match="commitment has no effect with gradient: diveq"):
        quantizers.create("vq", dim=8, gradient="diveq", commitment=1.0)
    with pytest.raises(QuantizerError, match="two gradients"):
        quantizers.create("rvq", dim=8, gradient="sf-diveq", rotation_trick=True)
