"""Rate estimate: the bits of product codes as a differentiable function of the channels before rounding.

In training a channel x, in units of its cells, is thought to be rounded after uniform noise of a cell's width
was added (Balle et al. 2017, arXiv 1611.01704). It then falls into the cell below it or into the one above,
with probabilities that are linear in x. The shares p of all cells over a batch follow from these, and the
estimate is their entropy, summed over the channels. By this each x is charged -log2 p of its two cells, as in
entropy-constrained scalar quantization (Chou, Lookabaugh and Gray 1989). Nothing is learned beside the
quantizer, so no checkpoint changes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from quantizers.integers import whole


class Cells(NamedTuple):
    """Channels before rounding, in units in which a cell has volume 1 for each channel.

    positions: [batch, frames, channels], a whole number in the middle of a cell. lowest, highest: [channels],
    whole numbers, the outermost cells. most: number of cells of the widest channel.
    """

    positions: Tensor
    lowest: Tensor
    highest: Tensor
    most: int


def entropy_of(cells: Cells) -> Tensor:
    """The entropy in bits per frame, a scalar with a gradient, summed over channels.

    One count, spread over all cells of a channel, is added, so that no cell costs infinitely many bits.
    """
    lowest = cells.lowest
    highest = torch.maximum(cells.highest, lowest + 1)
    most = max(2, cells.most)
    positions = cells.positions.flatten(0, -2)
    positions = torch.minimum(torch.maximum(positions, lowest), highest)
    with torch.no_grad():
        below = torch.minimum(torch.floor(positions), highest - 1)
        first = most * torch.arange(len(lowest), device=lowest.device)
        cell = whole(below - lowest).clamp(0, most - 2) + first
    above = positions - below  # the probability of the upper cell
    with torch.no_grad():
        counts = positions.new_zeros(len(lowest) * most)
        counts.index_add_(0, cell.flatten(), (1 - above).flatten())
        counts.index_add_(0, cell.flatten() + 1, above.flatten())
        spread = (1 / (highest - lowest + 1)).repeat_interleave(most)
        bits = -torch.log2((counts + spread) / (len(positions) + 1))
    # Shares are held constant: the entropy's own gradient has no other term, since shares add up to 1.
    return ((1 - above) * bits[cell] + above * bits[cell + 1]).sum(-1).mean()
