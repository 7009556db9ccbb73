"""Whole numbers out of rounded floats."""

from __future__ import annotations

from torch import Tensor


def whole(values: Tensor) -> Tensor:
    """Whole numbers as int64; NaN, which no integer stands for, as 0, so that codes stay within sizes."""
    return values.nan_to_num(nan=0.0).long()
