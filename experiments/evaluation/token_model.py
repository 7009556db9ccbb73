"""Token model: how well a small autoregressive network predicts the codes of a codec, as language models of
speech have to.

Factor f of frame t is predicted from all factors of the frames before t, by a recurrent network (GRU, Cho et
al. 2014), and from the factors before f of frame t, by the sum of their embeddings. It is trained on codes of
the training split, and scored on whole utterances of the test split. Of a factor with a stride, codes that
repeat a token cost nothing, since they are known; the others of the frame are given them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from codec.float32 import full_precision
from quantizers.parts.strides import token_count

if TYPE_CHECKING:
    from codec.model import Codec
    from experiments.data.dataset import Split
    from experiments.data.streaming import TarSplit

WIDTH = 128
LEARNING_RATE = 3e-3  # falls to 0
SEQUENCES, FRAMES = 16, 128  # of a step
SECONDS, CROP_SECONDS = 600.0, 4.0  # of training audio
MOST_CODES = 2**14  # of a factor: the last layer has a row for each
SEED = 20_000  # added to the run's, for the crops


class TokenModel(nn.Module):
    """Bits that each code costs.

    sizes: codes of each factor.
    """

    offsets: Tensor  # of each factor's codes in the embeddings

    def __init__(
        self, sizes: Sequence[int], width: int = WIDTH, strides: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.strides = tuple(strides or (1,) * len(sizes))
        self.register_buffer("offsets", torch.tensor([0, *np.cumsum(sizes[:-1]).tolist()]))
        self.past, self.present = (nn.Embedding(sum(sizes), width) for _ in range(2))
        self.memory = nn.GRU(width, width, batch_first=True)
        self.mix = nn.Linear(width, width)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def forward(self, factors: Tensor) -> Tensor:
        """Bits [batch, frames, factors] of `factors` [batch, frames, factors] int64, whose first frame begins
        a block of each factor; 0 for codes that are no tokens."""
        tokens = factors + self.offsets
        before = F.pad(self.past(tokens).sum(2)[:, :-1], (0, 0, 1, 0))
        state, _ = self.memory(before)
        present = self.present(tokens)
        hidden = torch.relu(self.mix(state.unsqueeze(2) + present.cumsum(2) - present))
        losses = [
            F.cross_entropy(head(hidden[:, :, place]).mT, factors[:, :, place], reduction="none")
            for place, head in enumerate(self.heads)
        ]
        bits = torch.stack(losses, -1) / math.log(2)
        return bits if set(self.strides) <= {1} else bits * self._tokens(factors.shape[1], bits)

    def _tokens(self, frames: int, like: Tensor) -> Tensor:
        """1 where a code of [frames, factors] is a token, 0 elsewhere."""
        place = torch.arange(frames, device=like.device).unsqueeze(1)
        return (place % torch.tensor(self.strides, device=like.device) == 0).to(like.dtype)


@full_precision()
def measure(
    codec: Codec,
    training: Split | TarSplit,
    utterances: Sequence[NDArray[np.integer]],
    *,
    steps: int,
    seed: int,
    check: Callable[[int, int], None],
) -> dict[str, float]:
    """`rate/modelled` in bit/s and `usage/token_perplexity`, 2 to the mean bits of a factor's code.

    utterances: factors [frames, factors] of each of the test split. Empty where the codec has no codes, and
    where a factor has more than `MOST_CODES`. Torch's global generator is left as it was.
    """
    sizes, strides = codec.quantizer.factor_sizes, codec.quantizer.factor_strides
    frames = sum(map(len, utterances))
    if not codec.quantizer.streams or not frames or max(sizes) > MOST_CODES:
        return {}
    pool = _training_codes(codec, training, seed, steps)
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(seed)
        model = TokenModel(sizes, strides=strides).to(pool.device)
    _train(model, pool, steps, seed, check)
    bits = 0.0
    tokens = sum(token_count(len(utterance), stride) for utterance in utterances for stride in strides)
    with torch.no_grad():
        for utterance in utterances:
            factors = torch.from_numpy(utterance.astype(np.int64)).to(pool.device)
            bits += float(model(factors[None]).double().sum()) if len(utterance) else 0.0
    return {
        "rate/modelled": bits / frames * codec.frame_rate,
        "usage/token_perplexity": 2 ** (bits / frames / (tokens / frames)),
    }


@torch.no_grad()
def _training_codes(codec: Codec, training: Split | TarSplit, seed: int, steps: int) -> Tensor:
    """Factors [crops, frames, factors] of seeded crops of the training audio, as many as `steps` can use."""
    samples = round(CROP_SECONDS * codec.frame_rate) * codec.hop
    device = next(codec.parameters()).device
    batches = min(math.ceil(SECONDS / CROP_SECONDS / SEQUENCES), max(steps, 1))
    codec.eval()
    with closing(training.crops(samples=samples, batch_size=SEQUENCES, seed=SEED + seed)) as crops:
        codes = [codec.encode(torch.from_numpy(crops.batch(number)).to(device)) for number in range(batches)]
    return codec.quantizer.factors(torch.cat(codes))


def _train(model: TokenModel, pool: Tensor, steps: int, seed: int, check: Callable[[int, int], None]) -> None:
    """Train by `steps` batches of pieces of `pool`, which the seed alone chooses."""
    random = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    length = min(FRAMES, pool.shape[1])
    period = math.lcm(*model.strides)
    for step in range(steps):
        rows = random.integers(len(pool), size=SEQUENCES)
        starts = period * random.integers((pool.shape[1] - length) // period + 1, size=SEQUENCES)
        pieces = [pool[row, start : start + length] for row, start in zip(rows, starts, strict=True)]
        optimizer.zero_grad()
        bits = model(torch.stack(pieces))
        (bits.mean() * (len(model.strides) / math.fsum(1 / s for s in model.strides))).backward()
        optimizer.step()
        schedule.step()
        check(step + 1, steps)
