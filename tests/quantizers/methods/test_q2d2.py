"""Q2D2: the released code reproduced, the paper's method done right, and its equality with FSQ."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import quantizers
from quantizers import QuantizerError
from quantizers.geometry import grids

GOLDEN = sorted((Path(__file__).parents[2] / "golden" / "q2d2_released").glob("*.npz"))
KINDS = {"hexagon": "hex", "rectangle": "rect", "rhombic": "rhombic"}


def test_golden_files_are_there() -> None:
    assert len(GOLDEN) == 8


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_released_code_is_reproduced(path: Path) -> None:
    golden = {key: torch.from_numpy(value) for key, value in np.load(path).items()}
    kind = KINDS[path.stem.split("_")[0]]
    quantizer = quantizers.create(f"q2d2-{kind}-released", dim=16, levels=golden["levels"].tolist())
    names = {"project_in.weight": "in_weight", "project_in.bias": "in_bias"}
    names |= {"project_out.weight": "out_weight", "project_out.bias": "out_bias"}
    quantizer.load_state_dict({name: golden[key] for name, key in names.items()})
    x = golden["x"].requires_grad_()
    out = quantizer(x)
    (gradient,) = torch.autograd.grad(out.features.square().sum(), x)
    codes = golden["indices"].long().unsqueeze(-1)
    assert torch.equal(out.codes, codes)
    for found, key in ((out.features, "y"), (quantizer.decode(codes), "decoded"), (gradient, "grad_x")):
        torch.testing.assert_close(found, golden[key], atol=1e-6, rtol=1e-6)
    for pair, grid in enumerate(quantizer.grids):
        assert torch.equal(grid.points, golden[f"grid{pair}"])


@pytest.mark.parametrize("levels", [(7, 7), (9, 9, 7, 7, 7, 7), (5, 11, 3, 3)])
def test_rectangle_with_odd_levels_is_fsq(levels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    planar = quantizers.create("q2d2-rect", dim=16, levels=levels, range="released", gradient="released")
    scalar = quantizers.create("fsq", dim=16, levels=levels)
    scalar.load_state_dict(planar.state_dict())
    x = 2 * torch.randn(4, 500, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(planar(x).features, scalar(x).features)


def test_even_rectangle_is_fsq_with_equal_cells() -> None:
    torch.manual_seed(0)
    planar = quantizers.create("q2d2-rect", dim=16, levels=(6, 8))
    scalar = quantizers.create("fsq", dim=16, levels=(6, 8), range="cell")
    scalar.load_state_dict(planar.state_dict())
    x = 2 * torch.randn(4, 500, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(planar(x).features, scalar(x).features)


def test_unit_gradient_is_that_of_tanh() -> None:
    quantizer = quantizers.create("q2d2-hex", dim=2, levels=(7, 9))
    torch.nn.init.eye_(quantizer.project_in.weight)
    torch.nn.init.eye_(quantizer.project_out.weight)
    torch.nn.init.zeros_(quantizer.project_in.bias)
    x = torch.randn(1, 100, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(quantizer(x).features.sum(), x)
    torch.testing.assert_close(gradient, 1 - torch.tanh(x) ** 2)


@pytest.mark.parametrize("kind", ["hex", "rect", "rhombic"])
@pytest.mark.parametrize(("channels", "streams"), [(2, 1), (12, 1), (32, 2), (64, 4)])
def test_any_number_of_pairs(kind: str, channels: int, streams: int) -> None:
    quantizer = quantizers.create(f"q2d2-{kind}", dim=8, levels=(9,) * channels).eval()
    assert quantizer.streams >= streams or kind != "rhombic"
    assert max(quantizer.codebook_sizes) <= 2**62
    out = quantizer(torch.randn(2, 300, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(quantizer.decode(out.codes), out.features)
    factors = quantizer.factors(out.codes)
    assert factors.shape == (2, 300, channels // 2)
    assert (factors < torch.tensor(quantizer.factor_sizes)).all()


def test_a_million_levels_round_trip() -> None:
    quantizer = quantizers.create("q2d2-rect", dim=4, levels=(2**20, 1000)).eval()
    out = quantizer(torch.randn(2, 300, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(quantizer.decode(out.codes), out.features)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("q2d2-rhombic", {"levels": (7, 8)}, ["odd", "(7, 9)"]),
        ("q2d2-hex", {"levels": (7, 8)}, ["odd number of rows", "(7, 9)"]),
        ("q2d2-rect", {"levels": (7, 7, 7)}, ["even number of entries"]),
        ("q2d2-rect", {"levels": (7, 1)}, ["at least 2"]),
        ("q2d2-rect", {"levels": (2**21, 3)}, ["float32"]),
        ("q2d2-hex", {"range": "cel"}, ["cell", "edge", "released"]),
    ],
)
def test_impossible_configurations_say_what_to_do(
    name: str, options: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(QuantizerError) as raised:
        quantizers.create(name, dim=8, **options)
    for word in words:
        assert word in str(raised.value)


def test_latents_for_figures_only_in_eval() -> None:
    quantizer = quantizers.create("q2d2-hex", dim=8, levels=(7, 9, 9, 11))
    x = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(0))
    assert quantizer(x).diagnostics == {}
    coordinates = quantizer.eval()(x).diagnostics["coordinates"]
    assert coordinates.shape == (2, 30, 4)
    factors = quantizer.factors(quantizer(x).codes)
    for pair, grid in enumerate(quantizer.grids):
        assert torch.equal(grid.nearest(coordinates[..., 2 * pair : 2 * pair + 2]), factors[..., pair])


@pytest.mark.parametrize("kind", ["hex", "rect", "rhombic"])
def test_training_on_noise_has_the_error_of_quantization(kind: str) -> None:
    quantizer = quantizers.create(f"q2d2-{kind}", dim=8, levels=(9, 9, 7, 7), gradient="noise")
    fixed = quantizers.create(f"q2d2-{kind}", dim=8, levels=(9, 9, 7, 7))
    fixed.load_state_dict(quantizer.state_dict())
    x = torch.randn(8, 500, 8, generator=torch.Generator().manual_seed(0))
    noisy, quantized = quantizer(x), fixed(x)
    assert torch.equal(noisy.codes, quantized.codes)
    assert torch.equal(quantizer.eval()(x).features, quantized.features)
    assert not torch.equal(noisy.features, quantized.features)
    grid = quantizer.grids[0]
    noise = grids.PairedGrids([grid]).cell_noise(torch.zeros(100_000, 1, 2))[:, 0]
    inside = grid.nearest(noise) == grid.nearest(torch.zeros(1, 2))
    assert inside.float().mean().item() > 0.999  # one cell but for its edges, and all of it
    area = {"hex": math.sqrt(3) / 2, "rect": 1.0, "rhombic": 0.5}[kind]
    moment = {"hex": 5 / (36 * math.sqrt(3)), "rect": 1 / 12, "rhombic": 1 / 12}[
        kind
    ]  # normalised, a dimension
    assert noise.square().mean().item() == pytest.approx(moment * area, rel=0.02)
    assert noise.mean(0).abs().max().item() < 0.01


def test_rotation_turns_the_gradient_as_it_turned_the_pair() -> None:
    quantizer = quantizers.create("q2d2-rect", dim=2, levels=(8, 8), gradient="rotation").eval()
    torch.nn.init.eye_(quantizer.project_in.weight)
    torch.nn.init.eye_(quantizer.project_out.weight)
    torch.nn.init.zeros_(quantizer.project_in.bias)
    torch.nn.init.zeros_(quantizer.project_out.bias)
    x = torch.tensor([[[0.2, 0.5]]], requires_grad=True)
    value = quantizer(x).features
    bounded = torch.tanh(x).detach()[0, 0]
    found = torch.stack([torch.autograd.grad(value[0, 0, i], x, retain_graph=True)[0][0, 0] for i in (0, 1)])
    jacobian = found / (1 - bounded**2)  # of the rotation alone
    code = value.detach()[0, 0]
    torch.testing.assert_close(jacobian @ bounded, code)  # it takes the pair to its code
    scale = code.norm() / bounded.norm()
    torch.testing.assert_close(jacobian @ jacobian.T, scale**2 * torch.eye(2))


@pytest.mark.parametrize(
    ("bits", "levels", "size"),
    [
        (1067 * 450 / 24_000, (9, 9, 7, 7, 7, 7), 1_047_625),  # 1.07, 3.33 and 6.92 kbit/s as published
        (3333 * 144 / 24_000, (9, 9, 7, 7, 7, 7), 1_047_625),
        (6923 * 72 / 24_000, (9, 9, 9, 9, 7, 7), 1_787_125),
    ],
)
def test_levels_as_released_by_their_rate(bits: float, levels: tuple[int, ...], size: int) -> None:
    options = {"channels": "released"}
    quantizer = quantizers.create("q2d2-rhombic-released", dim=8, bits=bits, **options)
    assert quantizer.config.levels == levels
    assert quantizer.codebook_sizes == (size,)
    named = quantizers.validate("q2d2-rhombic-released", {"levels": list(levels)})
    assert quantizer.config == named  # so a run's identity is that of the levels
    with pytest.raises(QuantizerError, match=r"released for 12\.00 bits .* \(20\.77 bits\)"):
        quantizers.validate("q2d2-rhombic-released", options, 12.0)
    with pytest.raises(QuantizerError, match="levels and bits both fix the rate"):
        quantizers.validate("q2d2-rhombic-released", {**options, "levels": list(levels)}, bits)
