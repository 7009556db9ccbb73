"""Minimal vectors of lattices as spherical codes, against brute force over all of them."""

import math

import pytest
import torch

import quantizers
from quantizers import QuantizerError
from quantizers.geometry.lattices import lattice
from quantizers.geometry.shells import NAMES, SIZES, Shell


@pytest.mark.parametrize("name", NAMES)
def test_every_minimal_vector_has_one_index(name: str) -> None:
    shell, shape = Shell(name), lattice(name)
    norm, kissing = shape.shell
    assert shell.size == SIZES[name] == kissing
    every = torch.arange(shell.size)
    vectors = shell.point(every)
    assert (vectors.square().sum(1) == norm).all()
    assert math.isclose(shell.radius**2, norm)
    assert len(vectors.unique(dim=0)) == kissing
    coordinates = torch.linalg.solve(shape.basis.mT, vectors.double().mT)
    assert (coordinates - coordinates.round()).abs().max() < 1e-9
    assert torch.equal(shell.nearest(vectors), every)


@pytest.mark.parametrize("name", NAMES)
def test_the_best_vector_against_all(name: str) -> None:
    shell = Shell(name)
    vectors = shell.point(torch.arange(shell.size))
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(400, vectors.shape[1], generator=generator)
    points[200:] *= torch.rand(200, vectors.shape[1], generator=generator) ** 4  # a few large values each
    found = (points * shell.point(shell.nearest(points))).sum(1)
    best = torch.cat([(part @ vectors.T).amax(1) for part in points.split(50)])
    assert torch.allclose(found, best, rtol=1e-5)
    # Points between two vectors are ties, which either may win.
    middle = vectors[torch.randint(shell.size, (100, 2), generator=generator)].sum(1)
    found = (middle * shell.point(shell.nearest(middle))).sum(1)
    assert torch.allclose(found, (middle @ vectors.T).amax(1), rtol=1e-5, atol=1e-5)


def test_all_three_types_of_the_leech_lattice_are_chosen() -> None:
    shell = Shell("Leech")
    points = torch.randn(4000, 24, generator=torch.Generator().manual_seed(0))
    points[:1000, :2] *= 8
    index = shell.nearest(points)
    shares = torch.histc(index.double(), bins=1, min=0, max=1103).item() / 4000
    assert shares > 0.1  # (4, 4, 0, ...) wherever two values are large
    octads, threes = ((index >= 1104) & (index < 98_256)), index >= 98_256
    assert min(octads[1000:].float().mean(), threes[1000:].float().mean()) > 0.3


@pytest.mark.parametrize(("name", "bits"), [("D4", 4.585), ("E8", 7.907), ("Leech", 17.585)])
def test_quantizer_with_bound_shell(name: str, bits: float) -> None:
    quantizer = quantizers.create("lattice", dim=16, lattice=name, bound="shell", counts=(1, 1)).eval()
    assert math.isclose(quantizer.bits_per_frame, 2 * bits, abs_tol=1e-3)
    assert quantizer.factor_sizes == (SIZES[name],) * 2
    features = torch.randn(2, 50, 16, generator=torch.Generator().manual_seed(0))
    out = quantizer(features)
    assert torch.equal(quantizer.decode(out.codes), out.features)
    # What goes into project_out are unit vectors, whatever the norm of the features.
    low = quantizer._value(quantizer.factors(out.codes)).unflatten(-1, (2, -1))
    assert torch.allclose(low.norm(dim=-1), torch.ones(2, 50, 2))
    with torch.no_grad():
        quantizer.project_in.bias.zero_()
    assert torch.equal(quantizer(features).codes, quantizer(7 * features).codes)


def test_blocks_follow_from_bits() -> None:
    for bits, blocks in ((8.0, 1), (16.0, 2), (40.0, 5)):
        quantizer = quantizers.create("lattice", dim=16, bits=bits, lattice="E8", bound="shell")
        assert quantizer.config.counts == (1,) * blocks
    assert quantizers.create("lattice", dim=16, bits=9.0, lattice="D4", bound="shell", blocks=3).streams == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lattice": "A2", "counts": (1,)}, "bound shell needs lattice D4, E8, Leech, not A2"),
        ({"lattice": "A2", "bits": 16.0}, "bound shell needs lattice"),
        ({}, "each entry of counts must be 1"),
        ({"counts": (1, 1), "spread": 1.5}, "spread has no effect"),
    ],
)
def test_refusals(options: dict[str, object], words: str) -> None:
    with pytest.raises(QuantizerError, match=words):
        quantizers.create("lattice", dim=16, bound="shell", **options)
