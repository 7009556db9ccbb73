"""What a uniform source would show of the joint codes of a frame, where runs have logged only what they used.

It follows from the bits and the number of tokens, so stores of any age have it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import pandas as pd

from quantizers.uniform_usage import uniform_usage

JOINT = "usage/joint_used_fraction"
UNIFORM = tuple(f"usage/joint_uniform_{name}" for name in ("used_fraction", "perplexity", "entropy_fraction"))
_NOTHING = (math.nan,) * len(UNIFORM)


def with_uniform_use(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` with a column for each of `UNIFORM`, where they have logged joint use.

    Expectations over as many independent tokens as a run coded: `quantizers.usage.uniform_usage`. A joint
    code is that of one frame, or of `usage/joint_frames` where streams have strides.
    """
    if JOINT not in runs or "usage/tokens" not in runs:
        return runs
    known = runs[[JOINT, "usage/tokens", "rate/bits_per_frame"]].notna().all(axis=1)
    frames = pd.to_numeric(runs.get("usage/joint_frames", pd.Series(1.0, index=runs.index))).fillna(1.0)
    bits_of_all = runs["rate/bits_per_frame"] * frames
    tokens_of_all = runs.get("usage/joint_tokens", runs["usage/tokens"]).fillna(runs["usage/tokens"])
    rows = zip(known, bits_of_all, tokens_of_all, strict=True)
    values = [_uniform(float(bits), int(tokens)) if there else _NOTHING for there, bits, tokens in rows]
    return pd.concat([runs, pd.DataFrame(values, index=runs.index, columns=list(UNIFORM))], axis=1)


@lru_cache
def _uniform(bits: float, tokens: int) -> tuple[float, ...]:
    codes = max(1, round(2**bits))
    expected = uniform_usage(codes, tokens)
    entropy = expected["entropy_bits"]
    return expected["used"] / codes, 2**entropy, entropy / math.log2(codes) if codes > 1 else 1.0
