import pytest
import torch

import quantizers
from quantizers.geometry.slices import principal_slice


def test_the_plane_is_that_of_most_variance() -> None:
    codes = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 1, 4, 1, 1])
    found = principal_slice(codes, codes)
    assert found.explained[0] == pytest.approx(float(codes[:, 1].var() / codes.var(0).sum()), rel=0.02)
    assert found.points.std(0) == pytest.approx(codes.std(0)[[1, 3]].double(), rel=0.02)
    torch.testing.assert_close(found.latents, found.points)
    squares = (codes.double() - codes.double().mean(0)).square().sum(1)
    torch.testing.assert_close(found.points.square().sum(1) + found.distances, squares)


def test_nearest_code_of_a_vector_of_the_plane() -> None:
    """The least |y - foot|^2 + distance says which code of all dimensions is nearest."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randn(64, 9, generator=generator).double()
    centred = codes - codes.mean(0)
    axes = torch.linalg.svd(centred).Vh[:2]
    found = principal_slice(codes, codes.mean(0) + axes)  # the axes themselves, to learn their signs
    plane = 3 * torch.randn(2000, 2, generator=generator).double()
    vectors = plane @ found.latents.sign().diag().diag() @ axes + codes.mean(0)
    power = torch.cdist(plane, found.points).square() + found.distances
    assert torch.equal(power.argmin(1), torch.cdist(vectors, codes).argmin(1))


@pytest.mark.parametrize(
    ("name", "options"),
    [("vq", {"codebook_size": 32, "heads": 2}), ("rvq", {"codebook_size": 32, "stages": 2})],
)
def test_what_learned_codebooks_show(name: str, options: dict[str, int]) -> None:
    quantizer = quantizers.create(name, dim=8, **options)
    features = torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(0))
    quantizer(features)
    out = quantizer.eval()(features)
    codebooks, vectors = quantizer.codebook_vectors, out.diagnostics["vectors"]
    assert codebooks is not None
    assert vectors.shape == (3, 40, codebooks.shape[0], codebooks.shape[2])
    for group, codes in enumerate(codebooks):
        assert torch.equal(torch.cdist(vectors[:, :, group], codes[None]).argmin(-1), out.codes[..., group])


def test_a_line_has_no_plane() -> None:
    with pytest.raises(ValueError, match="dimension 1"):
        principal_slice(torch.zeros(4, 1), torch.zeros(4, 1))
    assert quantizers.create("fsq", dim=8, levels=[3, 3]).codebook_vectors is None
