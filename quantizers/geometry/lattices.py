"""Lattices of 1 to 24 dimensions with exact nearest points in closed form.

Each lattice here is a union of cosets `offset + step * k`, k integer vectors, in some with the parity of
sum(k) given (Conway and Sloane, Sphere Packings, Lattices and Groups, 3rd edition, chapter 4; decoding:
chapter 20 and "Fast quantizing and decoding algorithms for lattice quantizers and codes", IEEE Trans. IT
28, 1982). In one coset the nearest point is a rounding of each coordinate; where the parity comes out
wrong, the coordinate that costs least goes to its second choice. Restricting k to a box (a cube-bounded
code) keeps that exact. The Leech lattice has 8192 cosets, two for each word of the Golay code; the cheapest
word is found with its parity in one tree (`quantizers.geometry.leech`), the point in its coset as above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.geometry.leech import WordSearch, golay
from quantizers.integers import whole
from quantizers.option_checks import QuantizerError, check_choice

NAMES = ("Z", "A2", "A3*", "D4", "E8", "Leech")
DIMENSIONS = {"Z": 1, "A2": 2, "A3*": 3, "D4": 4, "E8": 8, "Leech": 24}
_NEVER = 1e30  # cost of a choice that is not open


class Lattice:
    """Union of cosets offset + step * k, with sum(k) of the given parity (None: any).

    steps [n], offsets [cosets, n], parities [cosets]; float64. `period`: the lattice repeats along axis i
    after period[i].
    """

    def __init__(
        self,
        name: str,
        steps: Sequence[float],
        offsets: Tensor,
        parities: Sequence[int] | None,
        period: Sequence[float],
        deep_hole: Sequence[float],
    ) -> None:
        self.name = name
        self.steps = torch.tensor(steps, dtype=torch.float64)
        self.offsets = offsets.double()
        self.parities = None if parities is None else torch.tensor(parities)
        self.period = torch.tensor(period, dtype=torch.float64)
        self.deep_hole = torch.tensor(
            deep_hole, dtype=torch.float64
        )  # a point as far from the lattice as can be

    @property
    def dimension(self) -> int:
        return len(self.steps)

    @property
    def volume(self) -> float:
        """Of one cell."""
        return float(self.steps.prod()) * (1 if self.parities is None else 2) / len(self.offsets)

    def nearest(self, points: Tensor) -> Tensor:
        """Lattice points nearest to `points` [..., n], in their precision."""
        return Cosets(self).to(points.device, points.dtype).nearest(points)[0]

    @cached_property
    def basis(self) -> Tensor:
        """Lower triangular basis [n, n] float64, one vector a row."""
        if self.name == "A2":
            return torch.tensor([[1.0, 0.0], [0.5, math.sqrt(3) / 2]], dtype=torch.float64)
        n, steps = self.dimension, torch.diag(self.steps)
        few = range(len(self.offsets)) if len(self.offsets) <= 2 else [*(1 << j for j in range(12)), 4096]
        generators = [self.offsets[c] for c in few]
        if self.parities is None:
            generators += list(steps)
        else:
            generators = [self.offsets[c] + float(self.parities[c]) * steps[0] for c in few]
            generators += [steps[i] - steps[i + 1] for i in range(n - 1)] + [2 * steps[0]]
        doubled = [[round(2 * value) for value in vector.tolist()] for vector in generators]
        return torch.tensor(_triangular(doubled, n), dtype=torch.float64) / 2

    @cached_property
    def shell(self) -> tuple[float, int]:
        """Norm of the shortest vectors and their number, the kissing number, exactly, from the theta
        series."""
        longest = min(float((self.steps**2).min()) * (1 if self.parities is None else 4), self._spread())
        counts: dict[float, int] = {}
        words, weights = torch.unique(self._sorted_offsets(), dim=0, return_counts=True)
        for (parity, *offset), weight in zip(words.tolist(), weights.tolist(), strict=True):
            for norm, number in _theta(offset, self.steps.tolist(), longest, int(parity)).items():
                counts[norm] = counts.get(norm, 0) + number * weight
        shortest = min(norm for norm in counts if norm > 0)
        return shortest, counts[shortest]

    def _sorted_offsets(self) -> Tensor:
        """Offsets with their parity (-1: any) first, coordinates of equal steps sorted, so that classes
        are counted."""
        parity = -torch.ones(len(self.offsets)) if self.parities is None else self.parities
        offsets = self.offsets.sort(dim=1).values if len(self.steps.unique()) == 1 else self.offsets
        return torch.cat((parity.double().unsqueeze(1), offsets), 1)

    def _spread(self) -> float:
        """Norm of some lattice vector: the shortest vector is no longer."""
        pair = float((self.steps**2).sort().values[:2].sum()) if self.dimension > 1 else math.inf
        return pair if self.parities is not None else float((self.steps**2).min())


class Cosets(nn.Module):
    """Nearest points of a lattice, or of its part inside a box of `counts` steps along each axis, centred
    on 0.

    counts None: the whole lattice. With parities the last count must be even, so that half of each coset's
    box remains.
    """

    steps: Tensor
    offsets: Tensor
    start: Tensor
    last: Tensor
    parities: Tensor

    def __init__(self, lattice: Lattice, counts: Sequence[int] | None = None) -> None:
        super().__init__()
        self.name = lattice.name
        self.bounded = counts is not None
        self.dimension = lattice.dimension
        self.register_buffer("steps", lattice.steps.clone(), persistent=False)
        parities = (
            lattice.parities if lattice.parities is not None else torch.full((len(lattice.offsets),), -1)
        )
        self.register_buffer("parities", parities.clone(), persistent=False)
        self.checkerboard = lattice.parities is not None
        if counts is None:
            shift, last = torch.zeros_like(lattice.steps), torch.full_like(lattice.steps, torch.inf)
        else:
            if len(counts) != self.dimension:
                raise QuantizerError(
                    f"{lattice.name} takes {self.dimension} counts per block, not {len(counts)}"
                )
            if self.checkerboard and counts[-1] % 2:
                raise QuantizerError(
                    f"the last count of each block of {lattice.name} must be even, since the parity of its "
                    f"points halves it; {counts[-1]} is not"
                )
            last = torch.tensor(counts, dtype=torch.float64) - 1
            shift = -(lattice.offsets.mean(0) + lattice.steps * last / 2)
        self.register_buffer("offsets", lattice.offsets + shift, persistent=False)
        self.register_buffer("last", last, persistent=False)
        self.search = WordSearch((0, 1), modulo=True) if self.name == "Leech" else None

    def nearest(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nearest points [..., n], their coset [...] int64 and their k [..., n] int64 (unbounded: k may be
        negative)."""
        flat = points.reshape(-1, self.dimension)
        if self.search is None:
            found = self._best_of_all(flat)
        else:
            parts, memory = self.search.blocks(flat)
            found = torch.cat([self._leech(part, memory) for part in parts])
        point, k, _ = self._in_coset(flat, self.offsets[found], self.parities[found])
        return point.view(points.shape), found.view(points.shape[:-1]), whole(k).view(points.shape)

    def point(self, coset: Tensor, k: Tensor) -> Tensor:
        """The points [..., n] of k [..., n] in `coset` [...]."""
        # Multiplied and added apart: a fused step may round otherwise.
        return k.to(self.steps.dtype) * self.steps + self.offsets[coset]

    def _best_of_all(self, points: Tensor) -> Tensor:
        """Coset of the nearest point, by trying each (there are one or two)."""
        if len(self.offsets) == 1:
            return torch.zeros(len(points), dtype=torch.int64, device=points.device)
        costs = [self._in_coset(points, o, p)[2] for o, p in zip(self.offsets, self.parities, strict=True)]
        return torch.stack(costs, -1).argmin(-1)

    def _in_coset(self, points: Tensor, offset: Tensor, parity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nearest point of one coset (or of one for each point), its k, and its squared distance."""
        k, second, penalty = self._choices(points, offset)
        if self.checkerboard:
            wrong = k.sum(-1) % 2 != parity
            cheapest = penalty.argmin(-1, keepdim=True)
            flipped = k.scatter(-1, cheapest, second.gather(-1, cheapest))
            k = torch.where(wrong.unsqueeze(-1), flipped, k)
        point = torch.addcmul(offset, k, self.steps)
        return point, k, (points - point).square().sum(-1)

    def _choices(self, points: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For each coordinate the best k in its box, the second best, and what that one adds to the
        squared distance."""
        exact = (points - offset) / self.steps
        k = torch.round(exact)
        if self.bounded:
            k = torch.minimum(k.clamp_min(0), self.last)
        second = k + torch.where(exact >= k, 1.0, -1.0).to(k.dtype)
        if self.bounded:
            second = torch.where((second < 0) | (second > self.last), 2 * k - second, second)
        penalty = ((exact - second).square() - (exact - k).square()) * self.steps.square()
        if self.bounded:
            penalty = penalty.masked_fill((second < 0) | (second > self.last), torch.inf)
        return k, second, penalty

    def _leech(self, points: Tensor, memory: Tensor) -> Tensor:
        """Coset [points] of the nearest of 8192: index = 4096 * odd + word, offset 2 * word + odd."""
        assert self.search is not None
        step = 4.0
        start = self.offsets[[0, 4096]]  # of the word 0
        offsets = torch.stack((start, start + 2), 1).permute(0, 2, 1).unsqueeze(-1)  # [odd, 24, bit, 1]
        exact = (points.mT.unsqueeze(1) - offsets) / step
        k = torch.round(exact)
        if self.bounded:
            last = self.last.view(-1, 1, 1)
            k = torch.minimum(k.clamp_min_(0), last)
        error = exact.sub_(k)
        if self.bounded:  # the second choice is the nearer one of those that are open
            up = error - (k - last).add_(1).clamp_min_(0).mul_(_NEVER)
            down = -error - (1 - k).clamp_min_(0).mul_(_NEVER)
            side = torch.maximum(up, down)
        else:
            side = error.abs()
        more = step * step - (2 * step * step) * side
        near = error.mul_(step).square_()
        odd = more * k.mul_(0.5).frac_().abs_().mul_(2)  # faster than remainder_(2)
        costs = torch.stack((near + odd, near + more.sub_(odd)), 3)  # [odd, 24, bit, flag, points]
        half, word = self.search(costs, memory)
        return 4096 * half + word


@cache
def lattice(name: str) -> Lattice:
    """The lattice `name`. Raises QuantizerError for an unknown one."""
    check_choice("lattice", name, (*NAMES, "released-hex", "rhombic"))
    root = math.sqrt(3)
    zero, half = [0.0], [0.5]
    made: dict[str, Any] = {
        "Z": lambda: Lattice(name, [1.0], torch.zeros(1, 1), None, [1.0], half),
        "A2": lambda: Lattice(
            name,
            [1.0, root],
            torch.tensor([[0, 0], [0.5, root / 2]], dtype=torch.float64),
            None,
            [1.0, root],
            [0.5, root / 6],
        ),
        "A3*": lambda: Lattice(
            name, [2.0] * 3, torch.tensor([zero * 3, [1.0] * 3]), None, [2.0] * 3, [1.0, 0.5, 0.0]
        ),
        "D4": lambda: Lattice(name, [1.0] * 4, torch.zeros(1, 4), [0], [2.0] * 4, [0.0, 0.0, 0.0, 1.0]),
        "E8": lambda: Lattice(
            name, [1.0] * 8, torch.tensor([zero * 8, half * 8]), [0, 0], [2.0] * 8, zero * 7 + [1.0]
        ),
        "Leech": lambda: Lattice(
            name,
            [4.0] * 24,
            torch.cat((2 * golay(), 2 * golay() + 1)),
            [0] * 4096 + [1] * 4096,
            [8.0] * 24,
            [4.0] + zero * 23,
        ),
        # What the released Q2D2 code calls hexagonal and rhombic, as infinite lattices.
        "released-hex": lambda: Lattice(
            name, [1.0, 2.0], torch.tensor([[0, 0], [0.5, 1.0]]), None, [1.0, 2.0], [0.5, 0.375]
        ),
        "rhombic": lambda: Lattice(
            name, [1.0, 1.0], torch.tensor([[0, 0], [0.5, 0.5]]), None, [1.0, 1.0], [0.5, 0.0]
        ),
    }
    return made[name]()


def _triangular(vectors: list[list[int]], n: int) -> list[list[int]]:
    """A lower triangular basis of the integer lattice that `vectors` generate (Hermite normal form by
    Euclid)."""
    rows = []
    for axis in reversed(range(n)):
        while True:
            active = sorted((v for v in vectors if v[axis]), key=lambda v: abs(v[axis]))
            if len(active) <= 1:
                break
            pivot = active[0]
            for vector in active[1:]:
                times = vector[axis] // pivot[axis]
                vector[:] = [a - times * b for a, b in zip(vector, pivot, strict=True)]
        rows.append(active[0])
        vectors = [v for v in vectors if v is not active[0] and any(v)]
    return rows[::-1]


def _theta(offset: Sequence[float], steps: Sequence[float], longest: float, parity: int) -> dict[float, int]:
    """Numbers of points of one coset by norm, up to `longest`; parity -1: any."""
    series: dict[tuple[float, int], int] = {(0.0, 0): 1}
    for start, step in zip(offset, steps, strict=True):
        reach = math.ceil(math.sqrt(longest) / step) + 1
        values = [(start + step * k, k % 2) for k in range(-reach - 1, reach + 1)]
        grown: dict[tuple[float, int], int] = {}
        for (norm, odd), number in series.items():
            for value, k_odd in values:
                total = round(norm + value * value, 9)
                if total <= longest + 1e-9:
                    key = total, (odd + k_odd) % 2
                    grown[key] = grown.get(key, 0) + number
        series = grown
    result: dict[float, int] = {}
    for (norm, odd), number in series.items():
        if parity in (-1, odd):
            result[norm] = result.get(norm, 0) + number
    return result
