"""Coded rates: bits per second that `codecbench encode` would write for the test set, without writing them.

`rate/coded`: each utterance is a file of its own, by the model that codes it in the fewest bits, without the
header of the file. Models know nothing at the beginning of an utterance, so the cost of learning is in the
rate, which `rate/entropy_bitrate` leaves out, and the order of the utterances plays no part.
`rate/coded_stream`: all utterances in one stream, in the order of the split, by the best model; what was
learned stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from codec.bitstream import payload
from codec.bitstream.lengths import symbols_before, tokens_of
from quantizers.parts.strides import token_count

if TYPE_CHECKING:
    from quantizers import Quantizer

Int64 = NDArray[np.int64]

PAIRS_SEEN = 4  # how often, on average, a pair of codes must have been seen for its entropy to be estimated


def of_test_set(
    quantizer: Quantizer, utterances: Sequence[NDArray[np.integer]], frame_rate: float
) -> dict[str, float]:
    """`rate/coded`, `rate/coded_stream` and, by each model of `codec.bitstream.payload` alone,
    `rate/coded_static` and so on, in bit/s; `rate/conditional_entropy_bitrate` where there are frames enough
    to estimate it.

    utterances: factors [frames, factors] of each. frame_rate: Hz.
    """
    if not quantizer.streams or not sum(map(len, utterances)):
        return {}
    factors = np.concatenate(utterances).astype(np.int64)
    recordings = [len(utterance) for utterance in utterances]
    sizes, strides = quantizer.factor_sizes, quantizer.factor_strides
    each = payload.shortest_of_each(factors, sizes, recordings, strides)
    stream = payload.shortest(factors, sizes, recordings, strides)
    bits = {f"rate/coded_{model}": lengths.sum() for model, lengths in each.items()}
    bits["rate/coded"] = np.minimum.reduce([*each.values()]).sum()
    bits["rate/coded_stream"] = min(length.bits for length in stream.values())
    values = {name: float(total) * frame_rate / len(factors) for name, total in bits.items()}
    known = []
    for column, stride in zip(np.ascontiguousarray(factors.T), strides, strict=True):
        tokens = tokens_of(column, recordings, stride)
        entropy = conditional_entropy(tokens, [token_count(frames, stride) for frames in recordings])
        if entropy is not None:
            known.append(entropy * (len(tokens) / len(factors)))
    if len(known) == len(sizes):
        values["rate/conditional_entropy_bitrate"] = math.fsum(known) * frame_rate
    return values


def conditional_entropy(symbols: Int64, recordings: Sequence[int]) -> float | None:
    """Entropy in bits of a symbol given that of the frame before, H(pairs) - H(first of the pairs), each with
    the Miller-Madow correction of `quantizers.usage`.

    symbols: [frames] of one factor. recordings: frames of each. None where pairs came less than `PAIRS_SEEN`
    times on average: the estimate would be far too low.
    """
    before = symbols_before(symbols, recordings)
    inside = before >= 0
    first, second = before[inside], symbols[inside]
    if not len(first):
        return None
    # Numbered without gaps, so that a pair's number cannot overflow.
    _, first = np.unique(first, return_inverse=True)
    values, second = np.unique(second, return_inverse=True)
    pairs = np.unique(first * len(values) + second, return_counts=True)[1]
    if len(first) < PAIRS_SEEN * len(pairs):
        return None
    return max(0.0, _entropy(pairs) - _entropy(np.bincount(first)))


def _entropy(counts: Int64) -> float:
    """Plug-in entropy in bits with the Miller-Madow correction."""
    total = counts.sum()
    shares = counts[counts > 0] / total
    return float(-(shares * np.log2(shares)).sum() + (len(shares) - 1) / (2 * total * math.log(2)))
