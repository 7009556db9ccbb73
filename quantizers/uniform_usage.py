"""Use of a codebook by a uniform source: what N independent tokens are expected to show. Needs no torch."""

from __future__ import annotations

import math

import numpy as np

DEAD = 0.1  # of an even share: codes that occur less often are dead


def uniform_usage(codes: int, tokens: int) -> dict[str, float]:
    """Expected figures of `tokens` independent draws from a uniform source of `codes` codes.

    n_i is binomial(tokens, 1 / codes); each figure is a sum over i of a function of n_i, so its
    expectation is exact.
    """
    if tokens == 0:
        return {"used": 0.0, "dead": float(codes), "entropy_bits": 0.0}
    p = 1 / codes
    used = -codes * math.expm1(tokens * math.log1p(-p)) if codes > 1 else 1.0
    mean, deviation = tokens * p, math.sqrt(tokens * p)
    lowest = max(0, math.floor(mean - 12 * deviation - 12))
    n = np.arange(lowest, min(tokens, math.ceil(mean + 12 * deviation + 40)) + 1)
    # Below a probability of 1e-9 the binomial is the Poisson law to far within double precision's use here.
    pmf = _binomial(n, tokens, p) if p > 1e-9 else _poisson(n, mean)
    alive = float(pmf[n >= DEAD * tokens / codes].sum()) if mean * DEAD > 1 else used / codes
    plug_in = math.log2(tokens) - codes / tokens * float(np.sum(pmf[n > 1] * n[n > 1] * np.log2(n[n > 1])))
    entropy = min(plug_in + (used - 1) / (2 * tokens * math.log(2)), math.log2(codes))
    return {"used": used, "dead": codes * (1 - alive), "entropy_bits": max(entropy, 0.0)}


def _binomial(n: np.ndarray, tokens: int, p: float) -> np.ndarray:
    """`scipy.stats.binom.pmf`, bit for bit, without a second for importing all of its laws."""
    from scipy.special import _ufuncs

    if not hasattr(_ufuncs, "_binom_pmf"):
        from scipy import stats

        return np.asarray(stats.binom.pmf(n, tokens, p))
    return np.clip(_ufuncs._binom_pmf(n.astype(float), float(tokens), p), 0, 1)


def _poisson(n: np.ndarray, mean: float) -> np.ndarray:
    """`scipy.stats.poisson.pmf`, bit for bit."""
    from scipy.special import gammaln, xlogy

    return np.clip(np.exp(xlogy(n, mean) - gammaln(n + 1) - mean), 0, 1)
