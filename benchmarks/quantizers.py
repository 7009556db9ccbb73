"""Speed of the quantizers, each beside its peer in the same run: `python -m benchmarks.quantizers`.

Q2D2 in closed form against brute force (a distance to every grid point, as the released code does it) and
against vector-quantize-pytorch's FSQ at the same levels, on [16, 225, 512], one thread; growth from 7 to
101 levels in time and in memory; our learned codebook against the library's; the Leech lattice against E8;
and trellises against FSQ. Times are of the processor. Bursts of all candidates alternate, and the best call
of each counts, so that a busy machine disturbs little.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
import vector_quantize_pytorch as library
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import quantizers
from quantizers import Quantized, straight_through
from quantizers.geometry.figures_of_merit import measure_trellis
from quantizers.geometry.trellises import STATES
from quantizers.methods.q2d2 import Q2D2

SHAPE = (16, 225, 512)


class BruteForce(Q2D2):
    """Q2D2 as released: torch.cdist to all points of each pair's grid, argmin, look up."""

    def quantize(self, features: Tensor) -> Quantized:
        bounded = torch.tanh(self.project_in(features))
        with torch.no_grad():
            pairs = (bounded * self.scale).flatten(0, 1).unflatten(-1, (-1, 2)).unbind(1)
            points = [grid.points for grid in self.grids]
            index = [torch.cdist(pair, listed).argmin(-1) for pair, listed in zip(pairs, points, strict=True)]
            chosen = [listed[i] for listed, i in zip(points, index, strict=True)]
            value = torch.cat(chosen, -1).view_as(bounded) / self.normalise
            codes = self.packing.pack(torch.stack(index, -1)).view(*features.shape[:2], -1)
        return Quantized(
            self.project_out(straight_through(value, bounded)), codes, features.new_zeros(()), {}
        )


class LibraryFSQ(nn.Module):
    """vector-quantize-pytorch's FSQ without indices, which is its fastest way."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.inner = library.FSQ(list(levels), dim=SHAPE[-1], return_indices=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.inner(features)[0]


def features_of(out: object) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]  # type: ignore[index]


def timed(candidates: dict[str, nn.Module], rounds: int, backward: bool) -> dict[str, float]:
    """Best milliseconds of a call of each module."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_(backward)

    def call(module: nn.Module) -> None:
        if backward:
            features_of(module(x)).sum().backward()
        else:
            with torch.no_grad():
                module(x)

    return timed_calls({name: partial(call, module) for name, module in candidates.items()}, rounds)


def timed_calls(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Best milliseconds of each call; rounds of all alternate."""
    best = dict.fromkeys(candidates, float("inf"))
    for turn in range(rounds + 2):
        for name, call in candidates.items():
            for _ in range(3):  # the first of a burst finds the caches as the others left them
                start = time.process_time()  # on one thread; it does not count what other programs take
                call()
                if turn >= 2:  # the first two warm up
                    best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best


def allocated(module: nn.Module) -> float:
    """Mebibytes that one forward and backward allocates in all."""
    x = torch.randn(SHAPE).requires_grad_()
    features_of(module(x)).sum().backward()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        features_of(module(x)).sum().backward()
    return sum(max(0, event.self_cpu_memory_usage) for event in recorded.key_averages()) / 2**20


def brute_force(name: str, levels: tuple[int, ...]) -> nn.Module:
    module = BruteForce(SHAPE[-1], quantizers.validate(name, {"levels": levels}))
    for grid in module.grids:
        _ = grid.points  # listed once, not in the timed part
    return module


def released(peer: Path, grid: str, levels: tuple[int, ...]) -> nn.Module:
    """The released code's own module, from a checkout of it."""
    found = next(peer.rglob("two_dimension_quantization.py"), None)
    if found is None:
        raise SystemExit(f"{peer} holds no two_dimension_quantization.py; give a checkout of the Q2D2 code")
    spec = importlib.util.spec_from_file_location("released_q2d2", found)
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    names = {"hex": "hexagon", "rect": "rectangle", "rhombic": "rhombic"}
    module: nn.Module = code.Q2D(list(levels), dim=SHAPE[-1], vq_type=names[grid])
    return module


def planar(rounds: int, peer: Path | None) -> None:
    for backward in (False, True):
        print(f"\n{'forward and backward' if backward else 'forward'}, {list(SHAPE)}, ms (best of {rounds})")
        columns = ["levels", "grid", "ours", "brute force", "library FSQ", "our FSQ"]
        columns += ["brute/ours", "ours/library", *(["released", "rel./ours"] if peer else [])]
        print("".join(f"{column:>13}" for column in columns))
        for level in (7, 9):
            levels = (level,) * 6
            for grid in ("hex", "rect", "rhombic"):
                candidates = {
                    "ours": quantizers.create(f"q2d2-{grid}", dim=SHAPE[-1], levels=levels),
                    "brute": brute_force(f"q2d2-{grid}", levels),
                    "library": LibraryFSQ(levels),
                    "fsq": quantizers.create("fsq", dim=SHAPE[-1], levels=levels),
                }
                if peer:
                    candidates["released"] = released(peer, grid, levels)
                ms = timed(candidates, rounds, backward)
                row = [ms["ours"], ms["brute"], ms["library"], ms["fsq"], ms["brute"] / ms["ours"]]
                row.append(ms["ours"] / ms["library"])
                if peer:
                    row += [ms["released"], ms["released"] / ms["ours"]]
                shown = [f"{value:13.2f}" for value in row]
                print(f"{level:>13}{grid:>13}{''.join(shown)}")


def nearest(rounds: int) -> None:
    """The search for the nearest point alone, without the linear maps that all share."""
    print(f"\nnearest points alone, {SHAPE[0] * SHAPE[1]} frames of 3 pairs, ms (best of {rounds})")
    columns = ("levels", "grid", "ours", "cdist", "differences", "cdist/ours", "diff./ours")
    print("".join(f"{column:>13}" for column in columns))
    for level in (7, 9):
        for grid in ("hex", "rect", "rhombic"):
            module = quantizers.create(f"q2d2-{grid}", dim=SHAPE[-1], levels=(level,) * 6)
            pairs = (
                torch.randn(SHAPE[0] * SHAPE[1], 3, 2, generator=torch.Generator().manual_seed(0)) * level / 3
            )
            listed = [planar_grid.points for planar_grid in module.grids]

            def ours(module: nn.Module = module, pairs: Tensor = pairs) -> object:
                return module.paired.nearest(pairs)

            def cdist(pairs: Tensor = pairs, listed: list[Tensor] = listed) -> object:
                index = [torch.cdist(x, y).argmin(-1) for x, y in zip(pairs.unbind(1), listed, strict=True)]
                return [y[i] for i, y in zip(index, listed, strict=True)], index

            def differences(pairs: Tensor = pairs, listed: list[Tensor] = listed) -> object:
                parts = zip(pairs.unbind(1), listed, strict=True)
                index = [(x[:, None] - y).square().sum(-1).argmin(-1) for x, y in parts]
                return [y[i] for i, y in zip(index, listed, strict=True)], index

            ms = timed_calls({"ours": ours, "cdist": cdist, "differences": differences}, rounds)
            row = [
                ms["ours"],
                ms["cdist"],
                ms["differences"],
                ms["cdist"] / ms["ours"],
                ms["differences"] / ms["ours"],
            ]
            print(f"{level:>13}{grid:>13}{''.join(f'{value:13.2f}' for value in row)}")


def growth(rounds: int) -> None:
    print("\ngrowth with the number of levels: forward and backward, milliseconds and MiB allocated")
    print(f"{'grid':10}{'7 levels':>10}{'101 levels':>12}{'MiB at 7':>10}{'MiB at 101':>12}")
    for grid in ("hex", "rect", "rhombic"):
        modules = {
            str(n): quantizers.create(f"q2d2-{grid}", dim=SHAPE[-1], levels=(n,) * 6) for n in (7, 101)
        }
        ms = timed(dict(modules), rounds, True)
        memory = {name: allocated(module) for name, module in modules.items()}
        print(f"{grid:10}{ms['7']:10.2f}{ms['101']:12.2f}{memory['7']:10.1f}{memory['101']:12.1f}")


def learned(rounds: int) -> None:
    global SHAPE
    whole, SHAPE = SHAPE, (16, 75, 32)
    print(f"\nlearned codebook, a training step on {list(SHAPE)}, milliseconds")
    print(f"{'codes':8}{'ours':>8}{'library':>10}{'library/ours':>14}")
    for size in (724, 1024, 4096):
        theirs = library.VectorQuantize(
            32, size, decay=0.99, kmeans_init=True, threshold_ema_dead_code=1, rotation_trick=False
        )
        ms = timed(
            {"ours": quantizers.create("vq", dim=32, codebook_size=size), "library": theirs}, rounds, True
        )
        print(f"{size:<8}{ms['ours']:8.2f}{ms['library']:10.2f}{ms['library'] / ms['ours']:14.1f}")
    SHAPE = whole


def lattices(rounds: int) -> None:
    """24 channels in blocks of 1, 8 and 24, in the three ways to bound a lattice."""
    for dim in (32, SHAPE[-1]):
        print(f"\nlattices on 24 channels, a training step on {[16, 75, dim]}, ms (best of {rounds})")
        print(f"{'bound':10}{'bits':>6}{'Z':>9}{'E8':>9}{'Leech':>9}{'Leech/E8':>10}")
        for bound, bits in (("cube", 48.0), ("cube", 72.0), ("voronoi", 48.0), ("shell", 24.0)):
            blocks = {"Z": 24, "E8": 3, "Leech": 1} if bound != "shell" else {"E8": 3, "Leech": 1}
            modules = {
                name: quantizers.create("lattice", dim=dim, bits=bits, lattice=name, bound=bound, blocks=n)
                for name, n in blocks.items()
            }
            ms = timed_steps(modules, dim, rounds)
            exact = f"{modules['E8'].bits_per_frame:6.0f}" + (f"{ms['Z']:9.2f}" if "Z" in ms else f"{'':9}")
            print(f"{bound:10}{exact}{ms['E8']:9.2f}{ms['Leech']:9.2f}{ms['Leech'] / ms['E8']:10.2f}")


def trellis(rounds: int) -> None:
    """Trellis-coded quantization beside FSQ at the same bits; and the granular gains of the trellises."""
    states = (4, 8, 256)
    for dim in (32, SHAPE[-1]):
        print(f"\ntrellis, a training step on {[16, 75, dim]}, ms (best of {rounds})")
        print(f"{'channels':>8}{'bits':>6}{'over':>10}{'fsq':>8}" + "".join(f"{n:>8}" for n in states))
        for channels, bits in ((6, 19.0), (24, 72.0)):
            plain = quantizers.create("fsq", dim=dim, bits=bits, channels=channels)
            for over in ("channels", "time"):
                modules = {0: plain} | {
                    n: quantizers.create(
                        "trellis", dim=dim, bits=bits, channels=channels, states=n, over=over
                    )
                    for n in states
                }
                ms = timed_steps({str(n): module for n, module in modules.items()}, dim, rounds)
                print(f"{channels:>8}{bits:6.0f}{over:>10}" + "".join(f"{ms[str(n)]:8.2f}" for n in modules))
    print("\ngranular gain of long paths, dB, 10^6 values uniform in a period; the most there can be: 1.53")
    for n in STATES:
        found = measure_trellis(n, 1_000_000)
        print(f"{n:>8} states{found.gain:8.3f} ± {found.error:.3f}")


def timed_steps(modules: Mapping[str, nn.Module], dim: int, rounds: int) -> dict[str, float]:
    """Best milliseconds of forward and backward on [16, 75, dim]."""
    x = torch.randn(16, 75, dim, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def call(module: nn.Module) -> None:
        features_of(module(x)).sum().backward()

    return timed_calls({name: partial(call, module) for name, module in modules.items()}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--peer", type=Path, help="a checkout of the released Q2D2 code, timed beside ours")
    parts: dict[str, Callable[[int], None]] = {
        "nearest": nearest,
        "planar": lambda rounds: planar(rounds, arguments.peer),
        "growth": growth,
        "learned": learned,
        "lattices": lattices,
        "trellis": trellis,
    }
    parser.add_argument("--only", nargs="+", choices=parts, help="these parts instead of all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name in arguments.only or parts:
        parts[name](arguments.rounds)


if __name__ == "__main__":
    main()
