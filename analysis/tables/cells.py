"""Text of the cells of a table, the same in every format."""

from __future__ import annotations

import math

from analysis.results.columns import Column
from analysis.tables.table import Cell

MISSING = "—"


_SIGNS = {"worse": "†", "starred": "*"}

GROUP_TITLES = {"rate": "Rate", "use": "Codebook use", "quality": "Quality", "cost": "Cost"}


def number(value: float, digits: int) -> str:
    """Fixed decimals, without a negative zero; scientific where they would all be lost."""
    text = f"{value:.{digits}f}"
    if value != 0 and not text.strip("-0."):
        return f"{value:.1e}" if digits else f"{value:.1g}"
    return text


def cell_text(cell: Cell, column: Column) -> str:
    """The value alone, after `†` where it is significantly worse than the best, `*` where it is starred."""
    if cell.value is None:
        return cell.text or MISSING
    return _SIGNS.get(cell.mark, "") + number(cell.value, column.digits)


def interval_text(cell: Cell, column: Column, intervals: str) -> str:
    """The interval as `± half-width` or, for `range`, as `[low, high]`; nothing without one.

    A half-width that the column's digits would show as zero gets as many as it needs.
    """
    if cell.low is None or cell.high is None:
        return ""
    if intervals == "range":
        return f"[{number(cell.low, column.digits)}, {number(cell.high, column.digits)}]"
    half = (cell.high - cell.low) / 2
    needed = -math.floor(math.log10(half)) if half > 0 else 0
    return f"± {half:.{max(column.digits, min(needed, 6))}f}"
