"""Minimal vectors of lattices as spherical codes: 24 of D4, 240 of E8, 196,560 of the Leech lattice.

Spherical quantization takes the minimal vector with the largest inner product (Zhao et al. 2025, arXiv
2512.14697, for the Leech lattice). No list of all vectors is searched. They come in few types (Conway and
Sloane, SPLAG, chapter 4, tables 4.8 and 4.13), and in each type the best one has a closed form:

- `Pairs`, (+-a, +-a, 0, ...): the two largest magnitudes, with their signs (D4, E8, Leech with a = 4);
- `SignedWords`, +-a on the ones of a code word with an even number of minus signs: the signs of the values,
  except that of the least magnitude where the number comes out odd (E8 with a = 1/2 and one word; Leech with
  a = 2 and the 759 octads of the Golay code);
- `Threes`, (-+3, +-1, ..., +-1) with upper signs on a word of the Golay code: one tree over the code, where a
  flag marks the coordinate of 3 (`quantizers.geometry.leech`).

An index counts the types in this order, and within a type the positions, then the signs.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from quantizers.geometry.leech import LENGTH, WordSearch, golay, least_row, octads
from quantizers.option_checks import check_choice

NAMES = ("D4", "E8", "Leech")
SIZES = {"D4": 24, "E8": 240, "Leech": 196_560}
_BLOCK = 2**11  # points that are searched at once


class Shell(nn.Module):
    """The minimal vectors of the lattice `name`, in the scale of `quantizers.geometry.lattices`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        check_choice("lattice", name, NAMES)
        types: dict[str, tuple[_Type, ...]] = {
            "D4": (Pairs(4, 1.0),),
            "E8": (Pairs(8, 1.0), SignedWords(torch.ones(1, 8, dtype=torch.int64), 0.5)),
            "Leech": (Pairs(LENGTH, 4.0), SignedWords(octads(), 2.0), Threes()),
        }
        self.types = nn.ModuleList(types[name])
        self.radius = math.sqrt(32 if name == "Leech" else 2)
        self.size = sum(part.size for part in self._types)

    @property
    def _types(self) -> list[_Type]:
        return list(self.types)  # type: ignore[arg-type]

    def nearest(self, points: Tensor) -> Tensor:
        """Index [...] int64 of the vector nearest in angle to each of `points` [..., n]."""
        flat = points.reshape(-1, points.shape[-1])
        return torch.cat([self._nearest(part) for part in flat.split(_BLOCK)]).view(points.shape[:-1])

    def _nearest(self, points: Tensor) -> Tensor:
        products, indices, start = [], [], 0
        for part in self._types:
            product, index = part.best(points)
            products.append(product)
            indices.append(start + index)
            start += part.size
        best = torch.stack(products).argmax(0, keepdim=True)
        return torch.stack(indices).gather(0, best)[0]

    def point(self, index: Tensor) -> Tensor:
        """Vectors [..., n] float32 of `index` [...] int64."""
        flat, start = index.flatten(), 0
        vectors: Tensor | None = None
        for part in self._types:
            inside = (flat - start).clamp(0, part.size - 1)
            made = part.point(inside)
            vectors = made if vectors is None else torch.where((flat < start).unsqueeze(1), vectors, made)
            start += part.size
        assert vectors is not None
        return vectors.view(*index.shape, vectors.shape[1])


class _Type(nn.Module):
    """Vectors of one type: how many there are, the best of them, and the map from an index."""

    size: int

    def best(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Largest inner product [points] with `points` [points, n], and the index [points] that has it."""
        raise NotImplementedError

    def point(self, index: Tensor) -> Tensor:
        """Vectors [points, n] float32 of `index` [points]."""
        raise NotImplementedError


class Pairs(_Type):
    """(+-a, +-a, 0, ..., 0): index = 4 * pair + 2 * (first is negative) + (second is negative)."""

    pairs: Tensor

    def __init__(self, n: int, a: float) -> None:
        super().__init__()
        self.n, self.a, self.size = n, a, 2 * n * (n - 1)
        listed = torch.tensor(list(itertools.combinations(range(n), 2)))
        self.register_buffer("pairs", listed, persistent=False)

    def best(self, points: Tensor) -> tuple[Tensor, Tensor]:
        size, place = points.abs().topk(2, dim=1)
        first, second = place.sort(dim=1).values.unbind(1)
        negative = (points.gather(1, torch.stack((first, second), 1)) < 0).long()
        pair = first * (2 * self.n - first - 1) // 2 + second - first - 1  # in the order of combinations
        return self.a * size.sum(1), 4 * pair + 2 * negative[:, 0] + negative[:, 1]

    def point(self, index: Tensor) -> Tensor:
        signs = torch.stack((1 - index // 2 % 2 * 2, 1 - index % 2 * 2), 1)
        zero = torch.zeros(len(index), self.n, device=index.device)
        return zero.scatter(1, self.pairs[index // 4], self.a * signs.float())


class SignedWords(_Type):
    """+-a on the 8 ones of a word [words, n], an even number of minus signs: index = 128 * word + the signs
    of the first seven ones, as bits."""

    words: Tensor
    ones: Tensor
    bits: Tensor

    def __init__(self, words: Tensor, a: float) -> None:
        super().__init__()
        self.a, self.size = a, 128 * len(words)
        self.register_buffer("words", words.float(), persistent=False)
        places = words.nonzero()[:, 1].view(len(words), 8)
        self.register_buffer("ones", places, persistent=False)
        self.register_buffer("bits", 2 ** torch.arange(7), persistent=False)

    def best(self, points: Tensor) -> tuple[Tensor, Tensor]:
        magnitude = points.abs().mT.contiguous()
        words = self.words.to(points.dtype)
        # 1 where the number of minus signs is odd, [words, points]; frac_ is faster than remainder_.
        odd = ((0.5 * words) @ (points.mT < 0).to(points.dtype)).frac_().mul_(2)
        first, *others = self.ones.unbind(1)
        least, memory = magnitude.index_select(0, first), torch.empty_like(odd)
        for place in others:
            torch.index_select(magnitude, 0, place, out=memory)
            torch.minimum(least, memory, out=least)
        cost = least.mul_(odd).mul_(2).sub_(torch.mm(words, magnitude, out=memory))
        word = least_row(cost, 23 if len(words) % 23 == 0 else 1)
        product = -cost.gather(0, word.unsqueeze(0))[0]
        values = points.gather(1, self.ones[word])  # [points, 8]
        signs = (values < 0).long()
        weakest = values.abs().argmin(1, keepdim=True)
        signs = signs.scatter_add(1, weakest, signs.sum(1, keepdim=True) % 2) % 2
        return self.a * product, 128 * word + signs[:, :7] @ self.bits

    def point(self, index: Tensor) -> Tensor:
        signs = index.unsqueeze(1) // self.bits % 2
        signs = torch.cat((signs, signs.sum(1, keepdim=True) % 2), 1)
        zero = torch.zeros(len(index), self.words.shape[1], device=index.device)
        return zero.scatter(1, self.ones[index // 128], self.a * (1 - 2 * signs).float())


class Threes(_Type):
    """Signs of a word of the Golay code (1 is minus), and in one place -3 for 1 or 3 for -1: index = 24 *
    word + place."""

    signs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.size = LENGTH * len(golay())
        self.search = WordSearch((1,), modulo=False)
        self.register_buffer("signs", 1.0 - 2.0 * golay(), persistent=False)

    def best(self, points: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        parts, memory = self.search.blocks(points)
        for part in parts:
            plus = part.mT.unsqueeze(1)
            ordinary = torch.cat((-plus, plus), 1)  # [24, 2 bits, points]
            _, word = self.search(torch.stack((ordinary, -3 * ordinary), 2).unsqueeze(0), memory)
            found.append(word)
        word = torch.cat(found)
        signed = self.signs[word].to(points.dtype) * points
        least, place = signed.min(1)
        return signed.sum(1) - 4 * least, LENGTH * word + place

    def point(self, index: Tensor) -> Tensor:
        signs = self.signs[index // LENGTH]
        place = (index % LENGTH).unsqueeze(1)
        return signs.scatter(1, place, -3 * signs.gather(1, place))
