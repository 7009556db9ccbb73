"""Each flaw of a library's bottleneck that an adapter fixes: the flaw is there, and is not in ours."""

import math

import pytest
import torch
import torch.nn.functional as F
import vector_quantize_pytorch as library
from torch import Tensor

import quantizers

LEARNED = [name for name in quantizers.available() if quantizers.entry(name).cls.learned]


def features(dim: int = 32, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(4, 60, dim, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_fsq_equals_the_library() -> None:
    levels = [8, 5, 6, 7]
    theirs = library.FSQ(levels, dim=32, return_indices=False)
    ours = quantizers.create("fsq", dim=32, levels=levels)
    ours.load_state_dict(theirs.state_dict(), strict=False)
    x = features().requires_grad_()
    expected, _ = theirs(x)
    found = ours(x).features
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(out.sin().sum(), x)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_fsq_indices_beyond_2_to_the_24() -> None:
    levels = [17] * 6
    quantizer = quantizers.create("fsq", dim=6, levels=levels).eval()
    x = features(6, 2.0)
    out = quantizer(x)
    assert out.codes.max() > 2**24
    assert torch.equal(quantizer.decode(out.codes), out.features)
    value = torch.tanh(quantizer.project_in(x)) * 8 * 1.001
    index = (value.round() + 8).long()
    expected = (index * 17 ** torch.arange(6)).sum(-1)
    assert torch.equal(out.codes[..., 0], expected)
    # The library adds in float32.
    rounded = (index.float() * (17 ** torch.arange(6)).float()).sum(-1).long()
    assert (rounded != expected).float().mean() > 0.1


def test_fsq_needs_no_table_of_its_codes() -> None:
    quantizer = quantizers.create("fsq", dim=16, levels=(9,) * 12)
    assert math.prod(quantizer.codebook_sizes) == 9**12
    assert sum(buffer.numel() for buffer in quantizer.buffers()) < 1000


def test_simvq_loss_is_off_in_eval() -> None:
    theirs = library.SimVQ(32, 64).eval()
    assert theirs(features())[2] > 0
    assert quantizers.create("simvq", dim=32, codebook_size=64).eval()(features()).loss == 0


@pytest.mark.parametrize("name", ["vq", "rvq", "simvq", "residual-simvq", "grouped-rvq"])
def test_gradient_is_straight_through_unless_asked(name: str) -> None:
    x = features().requires_grad_()
    direction = torch.randn(x.shape)
    for rotation in (False, True):
        quantizer = quantizers.create(name, dim=32, bits=6.0, rotation_trick=rotation)
        (gradient,) = torch.autograd.grad(quantizer(x).features, x, direction)
        assert torch.allclose(gradient, direction, atol=1e-5) is not rotation


def test_rotation_trick_equals_the_library() -> None:
    from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to as theirs

    from quantizers.parts.rotation import rotate_to

    x, codes = features().requires_grad_(), torch.randn(4, 60, 32)
    torch.testing.assert_close(rotate_to(x, codes), codes)
    direction = torch.randn(x.shape)
    found = torch.autograd.grad(rotate_to(x, codes), x, direction)[0]
    expected = torch.autograd.grad(theirs(x, codes), x, direction)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_residual_gradient_is_counted_once() -> None:
    x = features(6).requires_grad_()
    theirs = library.ResidualSimVQ(dim=6, num_quantizers=3, codebook_size=16, rotation_trick=False)
    (gradient,) = torch.autograd.grad(theirs(x)[0].sum(), x)
    assert torch.allclose(gradient, torch.full_like(x, 3.0), atol=1e-5)
    for name in ("residual-simvq", "grouped-rvq"):
        ours = quantizers.create(name, dim=6, stages=3, codebook_size=16)
        (gradient,) = torch.autograd.grad(ours(x).features.sum(), x)
        assert torch.allclose(gradient, torch.ones_like(x), atol=1e-5)


def test_grouped_rvq_has_no_code_minus_one() -> None:
    theirs = library.GroupedResidualVQ(
        dim=32, groups=2, num_quantizers=4, codebook_size=16, quantize_dropout=True
    )
    ours = quantizers.create("grouped-rvq", dim=32, stages=4, codebook_size=16, dropout=True)
    lowest = [(theirs(features())[1].min().item(), ours(features()).codes.min().item()) for _ in range(8)]
    assert min(low for low, _ in lowest) == -1
    assert min(low for _, low in lowest) >= 0


def test_residual_fsq_values_equal_the_library() -> None:
    theirs = library.ResidualFSQ(levels=[5, 4, 3], num_quantizers=3).eval()
    ours = quantizers.create("residual-fsq", dim=3, levels=(5, 4, 3), stages=3).eval()
    for linear in (ours.project_in, ours.project_out):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    out = ours(features(3))
    expected, codes = theirs(features(3))
    assert torch.equal(out.codes, codes.long())
    torch.testing.assert_close(out.features, expected)
    with pytest.raises(quantizers.QuantizerError, match="2\\^24"):
        quantizers.create("residual-fsq", dim=8, levels=(9,) * 8)


def test_fsp_codes_are_int64_and_its_loss_is_off_in_eval() -> None:
    theirs = library.FSP([9] * 8).eval()
    _, codes, loss, _ = theirs(features(8))
    assert codes.dtype == torch.int32
    assert loss > 0
    ours = quantizers.create("fsp", dim=8, levels=(9,) * 8).eval()
    for linear in (ours.project_in, ours.project_out):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    out = ours(features(8))
    assert out.loss == 0
    levels = theirs(features(8))[3]["level_indices"].long()
    assert torch.equal(ours.factors(out.codes), levels)
    assert (codes.long() != out.codes[..., 0]).any()  # the library's are rounded to float32
    torch.testing.assert_close(out.features, theirs(features(8))[0])


@pytest.mark.parametrize("norm", ["none", "var", "kurt", "var_tanh", "var_sigmoid", "var_laplace"])
def test_fsp_moments_are_the_librarys_where_those_are_finite(norm: str) -> None:
    theirs = library.FSP([9] * 4, vector_norm=norm).vector_norm
    ours = quantizers.create("fsp", dim=4, levels=(9,) * 4, norm=norm).inner.vector_norm
    x = features(4).flatten(0, 1).requires_grad_()
    losses = [part(x)[0] for part in (ours, theirs)]
    assert torch.equal(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss + 0 * x.sum(), x)[0] for loss in losses))
    equal = torch.full((50, 4), 0.3, requires_grad=True)
    (theirs(equal)[0] + equal.sum()).backward()
    assert torch.isnan(equal.grad).all()
    for rows in (equal.detach(), equal.detach()[:1]):
        rows.requires_grad_()
        (ours(rows)[0] + rows.sum()).backward()
        assert torch.isfinite(rows.grad).all()


@pytest.mark.parametrize(
    "name", [name for name in quantizers.available() if quantizers.entry(name).cls.learned]
)
def test_no_codebook_starts_in_eval_mode(name: str) -> None:
    theirs = library.GroupedResidualVQ(dim=32, groups=2, num_quantizers=2, codebook_size=16, kmeans_init=True)
    theirs.eval()(features())
    assert theirs.rvqs[0].layers[0]._codebook.initted
    ours = quantizers.create(name, dim=32, bits=9.0).eval()
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    ours.encode(features())
    ours(features())
    for key, value in ours.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_grouped_rvq_starts_as_the_library_does_in_training() -> None:
    torch.manual_seed(1)
    options = {"codebook_size": 16, "kmeans_init": True, "decay": 0.99, "commitment_weight": 0.25}
    options |= {"threshold_ema_dead_code": 0.1, "rotation_trick": False}
    theirs = library.GroupedResidualVQ(dim=32, groups=2, num_quantizers=2, **options)
    ours = quantizers.create("grouped-rvq", dim=32, groups=2, stages=2, codebook_size=16)
    for module in (theirs, ours):
        torch.manual_seed(2)
        module(features())
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, ours.inner.state_dict()[key]), key


def test_fsp_perturbs_in_training_within_the_cell() -> None:
    quantizer = quantizers.create("fsp", dim=4, levels=(5,) * 4)
    first, second = quantizer(features(4)).features, quantizer(features(4)).features
    assert not torch.equal(first, second)
    assert torch.equal(quantizer(features(4)).codes, quantizer(features(4)).codes)


def test_latent_values_learn_and_decode() -> None:
    theirs = library.LatentQuantize([5, 5], dim=8)
    out, _, loss = theirs(features(8).mT)
    (out.square().sum() + loss).backward()
    assert all(values.grad is None for values in theirs.values_per_latent)
    ours = quantizers.create("latent", dim=8, levels=(5, 5))
    out = ours(features(8))
    (out.features.square().sum() + out.loss).backward()
    assert ours.values.grad.abs().max() > 0
    with torch.no_grad():
        ours.values.mul_(1.3)
    out = ours.eval()(features(8))
    assert torch.equal(ours.decode(out.codes), out.features)


@pytest.mark.parametrize("spherical", [False, True])
def test_sign_quantizers_equal_the_library(spherical: bool) -> None:
    weights = {"entropy_loss_weight": 0.1, "commitment_loss_weight": 0.25}
    theirs = library.LFQ(dim=8, codebook_size=2**8, spherical=spherical, **weights)
    ours = quantizers.create("bsq" if spherical else "lfq", dim=8, channels=8)
    for linear in (ours.project_in, ours.project_out):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    x = features(8, 0.05)
    expected, found = theirs(x), ours(x)
    torch.testing.assert_close(found.features, expected.quantized)
    torch.testing.assert_close(found.loss, expected.entropy_aux_loss, rtol=1e-3, atol=1e-4)
    bits = ours.factors(found.codes)
    theirs_bits = (expected.indices.unsqueeze(-1) >> torch.arange(7, -1, -1)) & 1
    assert torch.equal(bits, theirs_bits)


def test_sign_quantizers_of_many_bits_need_no_softmax_over_codes() -> None:
    quantizer = quantizers.create("lfq", dim=16, channels=40)
    out = quantizer(features(16))
    assert torch.isfinite(out.loss)
    assert quantizer.codebook_sizes == (2**40,)


def test_factorized_vq_looks_up_by_angle() -> None:
    quantizer = quantizers.create("vq-factorized", dim=16, codebook_size=64).eval()
    stage = quantizer.stages[0]
    low = stage.project_in(features(16))
    similarity = F.cosine_similarity(low.unsqueeze(-2), stage.codebook.weight, dim=-1)
    assert torch.equal(quantizer(features(16)).codes[..., 0], similarity.argmax(-1))
