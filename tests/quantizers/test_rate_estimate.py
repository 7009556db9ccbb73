"""The differentiable estimate of the entropy of codes, and trainings with a weight on it."""

import pytest
import torch

import quantizers
from quantizers import QuantizerError
from quantizers.checks.sources import sample
from quantizers.rate_estimate import Cells, entropy_of
from quantizers.usage import UsageCounter

CAN = {
    "fsq": {"name": "fsq", "levels": (15, 8, 5, 9)},
    "cells": {"name": "fsq", "levels": (15, 8, 5, 9), "range": "cell", "activation": "sigmoid"},
    "hex": {"name": "q2d2-hex", "levels": (11, 11, 9, 11)},
    "rect": {"name": "q2d2-rect", "levels": (8, 8, 9, 9)},
    "rhombic": {"name": "q2d2-rhombic", "levels": (7, 7, 9, 9)},
    "released": {"name": "q2d2-hex-released", "levels": (9, 9, 9, 9)},
    "z": {"name": "lattice", "lattice": "Z", "counts": (9, 9, 9, 9)},
    "a2": {"name": "lattice", "lattice": "A2", "counts": (15, 9, 15, 9)},
    "d4": {"name": "lattice", "lattice": "D4", "counts": (12, 12, 12, 12)},
}
CANNOT = {
    "shell": {"name": "lattice", "lattice": "D4", "bound": "shell", "counts": (1,)},
    "voronoi": {"name": "lattice", "lattice": "D4", "bound": "voronoi", "counts": (9,)},
    "vq": {"name": "vq", "codebook_size": 16},
    "residual-fsq": {"name": "residual-fsq"},
}


def measured(quantizer: quantizers.Quantizer, features: torch.Tensor) -> float:
    """Bits per frame of an entropy coder."""
    codes = quantizer.eval()(features).codes
    counter = UsageCounter(quantizer.codebook_sizes, quantizer.factor_sizes)
    counter.update(codes, quantizer.factors(codes))
    return counter.report()["entropy_bits_per_frame"]


@pytest.mark.parametrize("case", CAN)
def test_the_estimate_is_near_the_entropy(case: str) -> None:
    torch.manual_seed(0)
    quantizer = quantizers.create(dim=4, **CAN[case])
    draw = torch.Generator().manual_seed(1)
    quantizer.start(sample("gaussian", 4096, 4, draw))
    features = sample("gaussian", 16_384, 4, draw).unsqueeze(0)
    estimate = quantizer.estimated_bits(features)
    # Noise of a cell's width adds a little; codes of a lattice in parts (its coset apart) cost a little more.
    assert estimate.item() == pytest.approx(measured(quantizer, features), abs=0.3)


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_estimate_says_so(case: str) -> None:
    quantizer = quantizers.create(dim=4, **CANNOT[case])
    assert not quantizer.estimates_rate(quantizer.config)
    with pytest.raises(QuantizerError, match=rf"{CANNOT[case]['name']} has no .*train.rate_weight"):
        quantizer.estimated_bits(torch.randn(1, 8, 4))


def test_values_of_an_example_are_those_of_its_shares() -> None:
    """Half of the values in the middle of cell 0, half between 0 and 1: shares 3/4 and 1/4, 0.8113 bits."""
    positions = torch.tensor([0.0, 0.5]).repeat(50_000).view(1, -1, 1)
    cells = Cells(positions, torch.tensor([-1.0]), torch.tensor([1.0]), 3)
    assert entropy_of(cells).item() == pytest.approx(0.8113, abs=1e-3)


def test_the_gradient_is_that_of_the_entropy_of_the_shares() -> None:
    torch.manual_seed(0)
    positions = (3 * torch.randn(1, 4000, 2, dtype=torch.float64)).requires_grad_()
    lowest, highest = torch.tensor([-4.0, -6.0]), torch.tensor([4.0, 7.0])

    def bits(scale: torch.Tensor) -> torch.Tensor:
        return entropy_of(Cells(positions.detach() * scale, lowest, highest, 14))

    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(bits(scale), scale)
    step = 1e-2
    with torch.no_grad():
        difference = (bits(scale + step) - bits(scale - step)) / (2 * step)
    assert slope.item() == pytest.approx(difference.item(), rel=0.05)
    (each,) = torch.autograd.grad(entropy_of(Cells(positions, lowest, highest, 14)), positions)
    assert each[(positions.abs() > 7.5)].abs().sum() == 0, "beyond the outermost cells nothing changes"
    # Cells far out are rare, so outward costs bits.
    inside = positions.abs() < 4
    assert ((each * positions.sign())[inside]).mean() > 0


def test_nan_and_constant_features_do_no_harm() -> None:
    quantizer = quantizers.create(dim=4, **CAN["fsq"])
    assert torch.isfinite(quantizer.estimated_bits(torch.zeros(2, 8, 4)))
    assert torch.isnan(quantizer.estimated_bits(torch.full((2, 8, 4), torch.nan)))
