"""Trellises of trellis-coded quantization: the best path by the Viterbi algorithm, and its labels.

Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov sources", IEEE Trans.
Communications 38, 1990. The levels of a scalar codebook, twice as many as the rate pays for, are dealt out
in turn to four subsets D0, D1, D2, D3. One bit per value drives a convolutional encoder of rate 1/2, whose
two output bits name the subset, and the other bits choose a level in it. A state offers D0 and D2, or D1 and
D3, so that a value has a level every two steps, as it would with a plain quantizer of that rate; the choice
between paths brings the mean squared error down by up to 1.33 dB at 256 states (the granular gain), more
than any lattice of up to 24 dimensions, of the 1.53 dB that are possible.

The encoders are Ungerboeck's for amplitude modulation (G. Ungerboeck, "Channel coding with multilevel/phase
signals", IEEE Trans. IT 28, 1982, table I; "Trellis-coded modulation with redundant signal sets, part II",
IEEE Communications Magazine 25, 1987, table I), the trellises of the paper above. He gives parity-check
polynomials h1, h0 in octal; the same code is generated without feedback by z1 = h0 u, z0 = h1 u, and the
label is 2 z1 + z0. Without feedback a label depends on the last bits only, log2(states) + 1 of them, so that
labels are a convolution, and a wrong bit disturbs no more values than that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantizers.option_checks import QuantizerError

POLYNOMIALS = {  # states: (h0, h1)
    4: (0o5, 0o2),
    8: (0o13, 0o04),
    16: (0o23, 0o04),
    32: (0o45, 0o10),
    64: (0o103, 0o024),
    128: (0o235, 0o126),
    256: (0o515, 0o362),
}
STATES = tuple(POLYNOMIALS)
SUBSETS = 4
_MEMORY = 3 * 2**23  # most bytes for the costs and decisions of rows that are searched at once


def check_states(states: object) -> None:
    """Raise QuantizerError unless there is a trellis of so many states."""
    if states not in STATES:
        raise QuantizerError(f"states must be one of {', '.join(map(str, STATES))}, not {states!r}")


class Trellis(nn.Module):
    """A trellis of `states` states, a power of 2, that starts in state 0 and may end in any.

    A state is the register of the last log2(states) bits, the newest being the least significant. The first
    `even` values of a path have subsets 0 and 2 only.
    """

    labels: Tensor

    def __init__(self, states: int) -> None:
        super().__init__()
        check_states(states)
        self.states = states
        self.memory = states.bit_length() - 1
        self.h0, self.h1 = POLYNOMIALS[states]
        self.even = (self.h1 & -self.h1).bit_length() - 1  # z0 is 0 before the first delay of h1
        registers = range(2 * states)  # 2 * state + the new bit
        labels = [2 * ((w & self.h0).bit_count() % 2) + (w & self.h1).bit_count() % 2 for w in registers]
        self.register_buffer("labels", torch.tensor(labels), persistent=False)

    def subsets(self, bits: Tensor) -> Tensor:
        """Labels [..., steps] int64, 0 to 3, of paths `bits` [..., steps] int64."""
        late = F.pad(bits, (self.memory, 0))
        delayed = [late[..., self.memory - i : late.shape[-1] - i] for i in range(self.memory + 1)]
        high = torch.stack([bit for i, bit in enumerate(delayed) if self.h0 >> i & 1]).sum(0)
        low = torch.stack([bit for i, bit in enumerate(delayed) if self.h1 >> i & 1]).sum(0)
        return 2 * (high % 2) + low % 2

    def search(self, costs: Tensor) -> Tensor:
        """Bits [steps, rows] int64 of the cheapest path of each row, for costs [steps, 4 subsets, rows]."""
        each = self.states * (4 * costs.element_size() + max(0, len(costs) - self.memory))
        parts = costs.split(max(1, _MEMORY // each), dim=-1)
        return torch.cat([self._search(part) for part in parts], dim=-1)

    def _search(self, costs: Tensor) -> Tensor:
        steps, _, rows = costs.shape
        half, early = self.states // 2, min(self.memory, steps)
        cost = costs.new_zeros(1, rows)
        for step in range(early):  # the register fills: state s leads to 2 s and 2 s + 1
            branch = costs[step].index_select(0, self.labels[: 2 * len(cost)])
            cost = (branch.view(len(cost), 2, rows) + cost.unsqueeze(1)).flatten(0, 1)
        # Then states r and r + half lead to 2 r and 2 r + 1; decided: whether the second is cheaper.
        decided = costs.new_empty((steps - early, half, 2, rows), dtype=torch.bool)
        branch = costs.new_empty(2 * self.states, rows)
        for step, second in zip(costs[early:], decided, strict=True):
            torch.index_select(step, 0, self.labels, out=branch)
            both = branch.view(2, half, 2, rows)
            both.add_(cost.view(2, half, 1, rows))
            torch.gt(both[0], both[1], out=second)
            torch.minimum(both[0], both[1], out=cost.view(half, 2, rows))
        state = cost.argmin(0)
        bits = []
        for second in decided.flip(0):
            bits.append(state % 2)
            state = state // 2 + half * second.flatten(0, 1).gather(0, state.unsqueeze(0))[0]
        for _ in range(early):
            bits.append(state % 2)
            state = state // 2
        return torch.stack(bits[::-1]) if bits else costs.new_zeros((0, rows), dtype=torch.int64)
