import pytest
import torch

from experiments.training.muon import Muon, _by_matrix, orthogonalise


@pytest.mark.parametrize("shape", [(3, 16, 64), (3, 64, 16), (1, 20, 20)])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 0.35), (torch.bfloat16, 0.4)])
def test_singular_values_come_near_one(shape: tuple[int, ...], dtype: torch.dtype, near: float) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.tensor([1e-4, 1.0, 1e4])[: shape[0], None, None]
    found = orthogonalise(matrices, dtype)
    assert found.shape == matrices.shape
    assert found.dtype == matrices.dtype
    values = torch.linalg.svdvals(found)
    assert values.max() < 1 + near
    assert values[:, : shape[1] // 2].min() > 1 - near
    # The directions are those of the matrix: only the sizes of the singular values change.
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    within = left.mT @ found @ right.mT
    assert (within - torch.diag_embed(within.diagonal(dim1=-2, dim2=-1))).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(4, 40, 160), (2, 160, 40), (1, 1, 7)])
def test_the_short_way_of_wide_matrices_gives_the_same(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    matrices[0] *= 1e-3 ** torch.linspace(0, 1, shape[1])[:, None]  # badly conditioned
    short, long = orthogonalise(matrices, torch.float32), _by_matrix(normalised(matrices.double()))
    assert (short - (long.mT if shape[1] > shape[2] else long)).abs().max() < 2e-3


def normalised(matrices: torch.Tensor) -> torch.Tensor:
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    return wide / wide.norm(dim=(-2, -1), keepdim=True)


def test_steps_are_those_of_torch_within_its_precision() -> None:
    torch.manual_seed(0)
    start = [torch.randn(size) for size in ((24, 8), (8, 24), (24, 8))]
    mine = [torch.nn.Parameter(value.clone()) for value in start]
    theirs = [torch.nn.Parameter(value.clone()) for value in start]
    optimizers = [
        Muon(mine, lr=0.02, weight_decay=0.1, dtype=torch.bfloat16),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95),
    ]
    for _ in range(5):
        for parameters in (mine, theirs):
            for parameter in parameters:
                parameter.grad = parameter.detach() ** 3
        for optimizer in optimizers:
            optimizer.step()
    for ours, torchs, value in zip(mine, theirs, start, strict=True):
        assert (ours - torchs).abs().max() < 0.02 * (torchs - value).abs().max()


def test_parameters_without_gradient_stay_and_vectors_are_refused() -> None:
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    Muon([parameter], lr=1.0, weight_decay=1.0).step()
    assert torch.equal(parameter, torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"not a tensor of shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.ones(3))], lr=1.0, weight_decay=0.0)
